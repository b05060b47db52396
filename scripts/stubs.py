"""Keeps python/millstream/_core.pyi equal to what the compiled extension says of itself.

    python scripts/stubs.py [--write]

Without --write it fails, and prints the difference, when the committed file is not what would be generated.
"""

from __future__ import annotations

import argparse
import difflib
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMITTED = ROOT / "python" / "millstream" / "_core.pyi"
HEADER = "# Generated from the compiled module by `make stubs`; edit cpp/pybind instead.\n"


def generate() -> str:
    """The stub text of the extension that this interpreter imports."""
    ruff = str(Path(sys.executable).with_name("ruff"))
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pybind11_stubgen",
                "millstream._core",
                "--exit-code",
                "--numpy-array-use-type-var",
                "--output-dir",
                folder,
            ],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        text = HEADER + Path(folder, "millstream", "_core.pyi").read_text()
    name = f"--stdin-filename={COMMITTED}"
    for command in (
        ["check", "--fix-only", "--quiet", name, "-"],
        ["format", "--quiet", name, "-"],
    ):
        text = subprocess.run(
            [ruff, *command], input=text, capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout
    return text


def main() -> int:
    """Compares or writes, and returns the process's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    wanted = generate()
    if arguments.write:
        COMMITTED.write_text(wanted)
        return 0
    present = COMMITTED.read_text() if COMMITTED.exists() else ""
    if present == wanted:
        return 0
    sys.stdout.writelines(
        difflib.unified_diff(
            present.splitlines(keepends=True),
            wanted.splitlines(keepends=True),
            "committed",
            "generated",
        )
    )
    print("python/millstream/_core.pyi is out of date: run `make stubs`", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
