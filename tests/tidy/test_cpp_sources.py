"""What C++ sources may include and call."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.tidy.modules import Module, modules, parse
from tests.tidy.tree import ROOT, cpp_code, files_of, lines_matching, text_of

INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
THROW = re.compile(r"\bthrow\b")

# What only env may touch, and what to use in its place.
BANNED = {
    r"\b(system_clock|steady_clock|high_resolution_clock)::now": "env's clock",
    r"(?<![\w.>:])(?:::|std::)?(time|gettimeofday|clock_gettime|clock)\s*\(\s*(?:\)|NULL|nullptr|0\)|CLOCK_|&)": (
        "env's clock"
    ),
    r"\b(sleep_for|sleep_until|usleep|nanosleep)\s*\(": "env's clock",
    r"\b(random_device|getrandom|getentropy|arc4random|srand|drand48)\b|(?<![\w.>:])(std::)?rand\s*\(": (
        "env's random source"
    ),
    r"\bstd::[io]?fstream\b|\bstd::filesystem\b|\bfopen\s*\(|\bfreopen\s*\(": "env's files",
    r"(?<![\w:])::(open|openat|read|write|pread|pwrite|pwritev|fsync|fdatasync|rename|unlink|mkdir|rmdir|stat|fstat|"
    r"mmap|munmap|ftruncate|fallocate|flock|opendir)\s*\(": "env's files",
    r"(?<![\w:])::(socket|connect|bind|listen|accept|send|recv|sendto|recvfrom|poll)\s*\(": (
        "env's network"
    ),
    r"\b(getenv|secure_getenv)\s*\(": "settings that the shell passes in",
}


def include_faults(module: Module, name: str, include: str, own_files: set[str]) -> str:
    """Why a file of a module may not include this; empty when it may."""
    if include.startswith("millstream/"):
        other = include.split("/")[1]
        if other in ("v1", module.name) or other in module.depends_on:
            return ""
        return f"{name}: includes {include}, and {module.name} does not declare {other} as a dependency"
    if ".." in Path(include).parts or "src" in Path(include).parts:
        return f"{name}: includes {include}; a private header is named from its own folder"
    if include not in own_files:
        return f"{name}: includes {include}, which is no file of {module.name}'s src/"
    return ""


def test_modules_include_only_what_they_declare() -> None:
    faults = []
    for name, module in modules().items():
        own = {
            path.relative_to(f"cpp/{name}/src").as_posix()
            for path in files_of(".h", ".inc", below=f"cpp/{name}/src")
        }
        for path in files_of(".cc", ".h", below=f"cpp/{name}"):
            for include in INCLUDE.findall(text_of(path)):
                faults.append(include_faults(module, str(path), include, own))
    assert not list(filter(None, faults)), "\n".join(filter(None, faults))


@pytest.mark.parametrize(
    ("include", "allowed"),
    [
        ("millstream/log/log.h", True),
        ("millstream/base/status.h", True),
        ("millstream/tsdb/head.h", False),
        ("segment.h", True),
        ("../../tsdb/src/head.h", False),
        ("tsdb/src/head.h", False),
        ("other.h", False),
    ],
)
def test_include_rule_tells_right_from_wrong(include: str, allowed: bool) -> None:
    (module,) = parse("millstream_module(log LAYER 3 SRCS src/a.cc DEPS millstream::base)")
    assert (include_faults(module, "a.cc", include, {"segment.h"}) == "") is allowed


def test_every_file_is_named_in_its_cmake_file() -> None:
    faults = []
    for name, module in modules().items():
        folder = Path("cpp") / name
        for path in files_of(".cc", below=str(folder / "src")):
            # A program beside the module, like millstreamd, is built by a line of its own.
            built = text_of(folder / "CMakeLists.txt").split()
            if path.relative_to(folder).as_posix() not in [word.strip("()") for word in built]:
                faults.append(f"{path} is built by nothing")
        for path in files_of(".h", below=str(folder / "include")):
            if path.relative_to(folder).as_posix() not in module.headers:
                faults.append(f"{path} is not in HDRS, so nothing checks that it compiles alone")
    for path in files_of(".cc", below="tests/cpp") + files_of(".cc", below="tests/fuzz"):
        if path.stem not in text_of(path.parent / "CMakeLists.txt"):
            faults.append(f"{path} is built by nothing")
    assert not faults, "\n".join(faults)


def test_headers_begin_with_what_they_are_for() -> None:
    faults = []
    for path in files_of(".h", below="cpp"):
        text = text_of(path)
        if not text.startswith("//"):
            faults.append(f"{path}: the first line is no comment")
        if text.count("#pragma once") != 1:
            faults.append(f"{path}: no #pragma once")
    assert not faults, "\n".join(faults)


def test_only_the_python_binding_throws() -> None:
    faults = [
        f"{path}:{line}"
        for path in files_of(".cc", ".h", below="cpp")
        if not path.is_relative_to("cpp/pybind")
        for line in lines_matching(THROW, cpp_code(text_of(path)))
    ]
    assert not faults, "\n".join(faults)


def test_throw_in_a_comment_or_a_string_is_none() -> None:
    code = cpp_code('// throw\nauto s = "throw";\nint n = 1\'000; /* throw */\nthrow 1;\n')
    assert lines_matching(THROW, code) == [4]


def banned_lines(text: str) -> list[tuple[int, str]]:
    code = cpp_code(text)
    return [
        (line, instead)
        for pattern, instead in BANNED.items()
        for line in lines_matching(re.compile(pattern), code)
    ]


def test_only_env_touches_clock_files_randomness_and_network() -> None:
    faults = [
        f"{path}:{line}: use {instead}"
        for path in files_of(".cc", ".h", below="cpp")
        if not path.is_relative_to("cpp/env")
        for line, instead in banned_lines(text_of(path))
    ]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    "line",
    [
        "auto t = std::chrono::steady_clock::now();",
        "auto t = time(nullptr);",
        "std::ifstream in(path);",
        "int fd = ::open(path, O_RDONLY);",
        "std::random_device seed;",
        "std::this_thread::sleep_for(1ms);",
        'const char* home = getenv("HOME");',
    ],
)
def test_banned_calls_are_seen(line: str) -> None:
    assert banned_lines(line)


@pytest.mark.parametrize(
    "line", ["clock.now();", "file->read(buffer);", "Offset time(Record r);", "// ::open(path)"]
)
def test_harmless_calls_are_left_alone(line: str) -> None:
    assert not banned_lines(line)


def test_root_is_where_it_should_be() -> None:
    assert (ROOT / "cpp" / "cmake" / "MillstreamModule.cmake").is_file()
