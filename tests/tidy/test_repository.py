"""What holds for every file of the repository."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.tidy.tree import GENERATED, ROOT, files, files_of, lines_matching, text_of

LINES_MAX = 800
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+\s+(.+?)\s*$", re.MULTILINE)

# Written in pieces, so that this file does not contain what it looks for.
REGISTRIES = re.compile(
    "|".join(
        re.escape(name + "." + end)
        for name, end in (
            ("pypi", "org"),
            ("pythonhosted", "org"),
            ("registry.npmjs", "org"),
            ("deb.debian", "org"),
            ("proxy.golang", "org"),
            ("sum.golang", "org"),
            ("maven.apache", "org/maven2"),
            ("static.crates", "io"),
            ("index.crates", "io"),
        )
    )
)
MACHINE_PATH = re.compile(r"(?<![\w.$}/-])/(?:work|root|home/\w+|opt/wheels|Users/\w+)(?=[/\s\"'])")
UNFINISHED = re.compile(r"\b(?:TO" + "DO|FIX" + "ME|XX" + r"X)\b")


def faults_in(pattern: re.Pattern[str], paths: list[Path] | tuple[Path, ...]) -> list[str]:
    return [f"{path}:{line}" for path in paths for line in lines_matching(pattern, text_of(path))]


def written_files() -> list[Path]:
    """What people write: no generated file and no test data."""
    return [
        path
        for path in files()
        if path.as_posix() not in GENERATED
        and not path.is_relative_to("tests/golden")
        and not path.is_relative_to("tests/fuzz/corpus")
    ]


def test_files_stay_below_800_lines() -> None:
    faults = []
    for path in files_of(".cc", ".h", ".py", ".ts", ".tsx", ".css", ".cmake", ".sh", ".proto"):
        count = text_of(path).count("\n")
        if path.as_posix() not in GENERATED and count > LINES_MAX:
            faults.append(f"{path}: {count} lines; split it by what it knows")
    assert not faults, "\n".join(faults)


def test_no_file_names_a_registry() -> None:
    assert not faults_in(REGISTRIES, files())


def test_no_file_names_a_path_of_one_machine() -> None:
    assert not faults_in(MACHINE_PATH, written_files())


def test_nothing_is_left_to_do() -> None:
    assert not faults_in(UNFINISHED, written_files())


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        (REGISTRIES, "https://pypi." + "org/simple"),
        (MACHINE_PATH, '"/ro' + 'ot/build"'),
        (UNFINISHED, "// TO" + "DO: later"),
    ],
)
def test_forbidden_words_are_seen(pattern: re.Pattern[str], line: str) -> None:
    assert pattern.search(line)


def test_text_files_end_with_one_newline_and_no_trailing_space() -> None:
    faults = []
    for path in written_files():
        text = text_of(path)
        if path.suffix in {".svg", ".png", ".bin", ".diff"} or not text:
            continue
        if not text.endswith("\n") or text.endswith("\n\n"):
            faults.append(f"{path}: does not end with exactly one newline")
        if path.suffix != ".md":
            faults += [f"{path}:{line}" for line in lines_matching(re.compile(r"[ \t]+$"), text)]
    assert not faults, "\n".join(faults)


def anchors(path: Path) -> set[str]:
    """The anchors that a Markdown file's headings make."""
    found = set()
    for heading in HEADING.findall(text_of(path)):
        plain = re.sub(r"[^\w\s-]", "", heading.replace("`", "").lower())
        found.add(re.sub(r"\s", "-", plain.strip()))
    return found


def test_links_in_documents_resolve() -> None:
    faults = []
    for path in files_of(".md"):
        text = re.sub(r"^```.*?^```", "", text_of(path), flags=re.DOTALL | re.MULTILINE)
        for first, second in LINK.findall(text):
            target = first or second
            if re.match(r"[a-z]+:", target):
                continue
            name, _, anchor = target.partition("#")
            other = (ROOT / path.parent / name).resolve() if name else ROOT / path
            if not other.exists():
                faults.append(f"{path}: {target} does not exist")
            elif anchor and anchor not in anchors(other.relative_to(ROOT)):
                faults.append(f"{path}: {target} names no heading")
    assert not faults, "\n".join(faults)


def test_markdown_files_have_one_title() -> None:
    faults = []
    for path in files_of(".md"):
        text = re.sub(r"^```.*?^```", "", text_of(path), flags=re.DOTALL | re.MULTILINE)
        titles = re.findall(r"^# ", text, re.MULTILINE)
        if len(titles) != 1:
            faults.append(f"{path}: {len(titles)} titles")
    assert not faults, "\n".join(faults)


def test_decisions_are_numbered_without_gaps() -> None:
    numbers = [int(path.name[:4]) for path in files_of(".md", below="docs/adr")]
    assert numbers == list(range(1, len(numbers) + 1))


def test_system_packages_are_listed_in_one_place() -> None:
    installer = re.compile(r"\bapt(?:-get)?\b[^\n#]*\binstall\b")
    allowed = {"scripts/install_packages.sh", "tests/tidy/test_repository.py"}
    scripts = [
        path
        for path in files()
        if path.as_posix() not in allowed
        and (
            path.suffix in {".sh", ".yml", ".yaml"}
            or path.name in {"Dockerfile", "Makefile", "run"}
        )
    ]
    assert not faults_in(installer, scripts)


def test_package_list_has_no_duplicates() -> None:
    names = [
        line.split("#")[0].strip()
        for line in text_of(Path("docker/packages.txt")).splitlines()
        if line.split("#")[0].strip() and not line.startswith("[")
    ]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", name) for name in names)


def test_python_packages_are_pinned_exactly() -> None:
    lines = [
        line
        for line in text_of(Path("requirements/dev.txt")).splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    assert lines
    assert [line for line in lines if "==" not in line] == []


def test_npm_packages_are_pinned_exactly() -> None:
    package = json.loads(text_of(Path("gateway/ui/package.json")))
    versions = {**package.get("dependencies", {}), **package.get("devDependencies", {})}
    assert versions
    assert {n: v for n, v in versions.items() if not re.fullmatch(r"\d+\.\d+\.\d+[\w.-]*", v)} == {}


def test_presets_are_the_documented_ones() -> None:
    presets = json.loads(text_of(Path("CMakePresets.json")))["configurePresets"]
    names = [preset["name"] for preset in presets if not preset.get("hidden")]
    assert names == ["dev", "release", "asan", "tsan"]
