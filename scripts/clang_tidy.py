"""Runs clang-tidy on every source of cpp/ and tests/cpp/ that changed since it last passed.

    python scripts/clang_tidy.py [--jobs N] [--all]

It reads what the compiler reads: a few sources at a time, which the build joins into one, since headers take most of
its time. "Changed" is told by content: the sources, the repository's headers that they include, directly or not, the
compile command, .clang-tidy and clang-tidy's version. What passed is remembered in ~/.cache/millstream/clang-tidy, so
a clean clone of what passed before costs nothing.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import hashlib
import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "release"
TIDY = "clang-tidy-19"
INCLUDE = re.compile(rb'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
CHECKED = (ROOT / "cpp", ROOT / "tests" / "cpp")


def passed_folder() -> Path:
    """Where the digests of what passed are kept."""
    base = os.environ.get("XDG_CACHE_HOME")
    folder = (Path(base) if base else Path.home() / ".cache") / "millstream" / "clang-tidy"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@cache
def header_index() -> dict[str, tuple[Path, ...]]:
    """The repository's headers by the names that an include may give them."""
    index: dict[str, list[Path]] = {}
    for folder in CHECKED:
        for header in folder.rglob("*.h"):
            parts = header.relative_to(ROOT).parts
            for start in range(len(parts)):
                index.setdefault("/".join(parts[start:]), []).append(header)
    return {name: tuple(headers) for name, headers in index.items()}


@cache
def includes_of(path: Path) -> tuple[Path, ...]:
    """The repository's headers that a file includes by itself."""
    found: list[Path] = []
    for name in INCLUDE.findall(path.read_bytes()):
        found.extend(header_index().get(name.decode(), ()))
    return tuple(found)


@cache
def digest_of_file(path: Path) -> bytes:
    """The digest of one file's bytes."""
    return hashlib.sha256(path.read_bytes()).digest()


def parts_of(unit: Path) -> list[Path]:
    """The repository's sources that the compiler reads as `unit`: itself, or those that the build joined into it."""
    if unit.is_relative_to(ROOT / "build"):
        joined = INCLUDE.findall(unit.read_bytes()) if unit.suffix == ".cxx" else []
        return [ROOT / name.decode() for name in joined]
    return [unit]


def closure(parts: list[Path]) -> list[Path]:
    """Sources and every header of the repository that they can see."""
    seen = set(parts)
    open_files = list(parts)
    while open_files:
        for header in includes_of(open_files.pop()):
            if header not in seen:
                seen.add(header)
                open_files.append(header)
    return sorted(seen)


def key_of(parts: list[Path], command: str, base: bytes) -> str:
    """The digest of everything that the verdict on these sources depends on."""
    digest = hashlib.sha256(base)
    digest.update(command.replace(str(ROOT), "").encode())
    for path in closure(parts):
        digest.update(str(path.relative_to(ROOT)).encode())
        digest.update(digest_of_file(path))
    return digest.hexdigest()


def check(unit: Path) -> tuple[Path, int, str]:
    """Runs clang-tidy on what the compiler reads as one source."""
    done = subprocess.run(
        [TIDY, "--quiet", "-p", str(BUILD), str(unit)],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return unit, done.returncode, done.stdout + done.stderr


def main() -> int:
    """Checks what changed and returns the process's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--all", action="store_true", help="check what passed before, too")
    arguments = parser.parse_args()

    version = subprocess.run([TIDY, "--version"], capture_output=True, check=True).stdout
    base = hashlib.sha256(version + (ROOT / ".clang-tidy").read_bytes()).digest()
    passed = passed_folder()
    work: dict[Path, Path] = {}
    for entry in json.loads((BUILD / "compile_commands.json").read_text()):
        unit = Path(entry["directory"], entry["file"]).resolve()
        parts = parts_of(unit)
        if any(part.is_relative_to(folder) for part in parts for folder in CHECKED):
            stamp = passed / key_of(parts, entry["command"], base)
            if arguments.all or not stamp.exists():
                work[unit] = stamp

    failed = 0
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        for unit, code, output in pool.map(check, work):
            if code == 0:
                work[unit].touch()
            else:
                failed += 1
                print(f"clang-tidy: {unit.relative_to(ROOT)}\n{output}", flush=True)
    print(f"clang-tidy: {len(work)} compilations checked, {failed} failed", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
