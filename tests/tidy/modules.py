"""What the CMake files say of the C++ modules: layer, headers, sources, dependencies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from tests.tidy.tree import ROOT

_CALL = re.compile(r"millstream_module\(\s*(?P<name>\w+)\s+(?P<arguments>[^)]*)\)")
_KEYWORDS = ("LAYER", "SRCS", "HDRS", "DEPS", "PRIVATE_DEPS")


@dataclass(frozen=True)
class Module:
    """One call of millstream_module()."""

    name: str
    layer: int
    sources: frozenset[str]
    headers: frozenset[str]
    depends_on: frozenset[str]


def parse(text: str) -> list[Module]:
    """The modules that a CMakeLists.txt makes."""
    text = re.sub(r"#[^\n]*", "", text)
    found = []
    for call in _CALL.finditer(text):
        values: dict[str, list[str]] = {keyword: [] for keyword in _KEYWORDS}
        keyword = ""
        for word in call["arguments"].split():
            if word in _KEYWORDS:
                keyword = word
            else:
                values[keyword].append(word)
        depends = {
            word.removeprefix("millstream::")
            for word in values["DEPS"] + values["PRIVATE_DEPS"]
            if word.startswith("millstream::")
        }
        found.append(
            Module(
                call["name"],
                int(values["LAYER"][0]),
                frozenset(values["SRCS"]),
                frozenset(values["HDRS"]),
                frozenset(depends),
            )
        )
    return found


@cache
def modules() -> dict[str, Module]:
    """The modules of cpp/, by name."""
    found = {}
    for file in sorted((ROOT / "cpp").glob("*/CMakeLists.txt")):
        for module in parse(file.read_text()):
            found[module.name] = module
    return found
