"""What a benchmark's result has to name: the commit and the machine."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def commit() -> str:
    """The commit of the source tree, marked when the tree differs from it."""
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown commit"
    return told.stdout.strip()


def machine() -> str:
    """Processor, cores, memory and kernel in one line."""
    processor = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+) kB", Path("/proc/meminfo").read_text())
    gib = int(memory.group(1)) / (1 << 20) if memory else 0
    name = processor.group(1) if processor else platform.machine()
    cores = len(os.sched_getaffinity(0))
    load = os.getloadavg()[0]
    return f"{name}, {cores} cores, {gib:.0f} GiB, Linux {platform.release()}, load {load:.1f}"


if __name__ == "__main__":
    print(f"commit {commit()} on {machine()}")
