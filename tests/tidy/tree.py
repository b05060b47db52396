"""The repository as the tidy checks see it: the files that git knows, and C++ without its comments and strings."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GENERATED = {
    "LICENSE",
    "gateway/ui/package-lock.json",
    "python/millstream/_core.pyi",
    "requirements/dev.txt",
}
_IGNORED_IN_CPP = re.compile(
    r'R"(?P<mark>[^(]*)\(.*?\)(?P=mark)"'  # raw strings
    r'|"(?:\\.|[^"\\\n])*"'
    r"|(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])*'"  # not the digit separator of 1'000
    r"|//[^\n]*|/\*.*?\*/",
    re.DOTALL,
)


@cache
def files() -> tuple[Path, ...]:
    """Every file that is, or is about to be, part of the repository, relative to its root."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    names = sorted(filter(None, listed.split("\0")))
    return tuple(Path(name) for name in names if (ROOT / name).is_file())


def files_of(*suffixes: str, below: str = "") -> list[Path]:
    """The files with one of these suffixes in a folder."""
    return [
        path
        for path in files()
        if path.suffix in suffixes and (not below or path.is_relative_to(below))
    ]


@cache
def text_of(path: Path) -> str:
    """A file's text; empty for a file that is no text."""
    try:
        return (ROOT / path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


def cpp_code(text: str) -> str:
    """C++ with comments and the insides of strings blanked, every line where it was."""

    def blank(match: re.Match[str]) -> str:
        return re.sub(r"[^\n]", " ", match.group())

    return _IGNORED_IN_CPP.sub(blank, text)


def lines_matching(pattern: re.Pattern[str], text: str) -> list[int]:
    """The numbers of the lines on which a pattern is found."""
    return [number for number, line in enumerate(text.split("\n"), 1) if pattern.search(line)]
