"""Asks a database of known vulnerabilities (osv.dev, through pip-audit) about every pinned package of
requirements/dev.txt. Fails when one is known; where the database cannot be reached it says what was not checked, and
does not fail, so that a build without a network passes.

    python scripts/audit.py [--ignore ID]…
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).resolve().parent.parent / "requirements" / "dev.txt"
DATABASE = ("api.osv.dev", 443)
CONNECT_SECONDS = 3.0
AUDIT_SECONDS = 120.0

# Known, and of no consequence here: id -> why. Empty is the aim.
ACCEPTED: dict[str, str] = {}

_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;]+)", re.MULTILINE)


def pinned(text: str) -> list[str]:
    """What a lock pins, as name==version."""
    return [f"{name}=={version}" for name, version in _PIN.findall(text)]


def unreachable(address: tuple[str, int]) -> str:
    """Why nobody answers there; empty when somebody does."""
    try:
        socket.create_connection(address, CONNECT_SECONDS).close()
    except OSError as error:
        return str(error)
    return ""


def audit(packages: list[str], ignored: list[str]) -> int:
    """The exit code: 0 nothing known or nothing could be asked, 1 something is known."""
    if why := unreachable(DATABASE):
        return _not_checked(packages, f"{DATABASE[0]} cannot be reached: {why}")
    command = [
        *(sys.executable, "-m", "pip_audit", "--requirement", str(LOCK), "--no-deps"),
        *("--disable-pip", "--vulnerability-service", "osv", "--format", "json"),
        *("--progress-spinner", "off"),
    ]
    for name in (*ACCEPTED, *ignored):
        command += ["--ignore-vuln", name]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=AUDIT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return _not_checked(packages, f"no answer within {AUDIT_SECONDS:g} s")
    try:
        answer = json.loads(done.stdout)
    except ValueError:
        return _not_checked(packages, (done.stderr.strip() or "no answer").splitlines()[-1])
    return report(answer["dependencies"])


def report(dependencies: list[dict[str, object]]) -> int:
    """Prints what is known of each, and what was skipped."""
    bad = 0
    for one in dependencies:
        if "skip_reason" in one:
            print(f"audit: {one['name']} was NOT checked: {one['skip_reason']}", file=sys.stderr)
        vulnerabilities = one.get("vulns") or []
        assert isinstance(vulnerabilities, list)
        for known in vulnerabilities:
            bad += 1
            fixed = ", ".join(known.get("fix_versions") or ()) or "no version yet"
            print(
                f"audit: {one['name']} {one['version']}: {known['id']}, mended in {fixed}",
                file=sys.stderr,
            )
    for name, why in ACCEPTED.items():
        print(f"audit: {name} is accepted: {why}", file=sys.stderr)
    if not bad:
        print(f"audit: nothing is known of {len(dependencies)} packages", file=sys.stderr)
    return 1 if bad else 0


def _not_checked(packages: list[str], why: str) -> int:
    print(
        f"audit: NOT checked for known vulnerabilities, {len(packages)} pinned packages of "
        f"{LOCK.relative_to(LOCK.parent.parent)} ({why})",
        file=sys.stderr,
    )
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description="known vulnerabilities of pinned packages")
    parser.add_argument("--ignore", action="append", default=[], metavar="ID")
    arguments = parser.parse_args()
    return audit(pinned(LOCK.read_text()), arguments.ignore)


if __name__ == "__main__":
    sys.exit(main())
