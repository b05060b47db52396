"""CMake refuses to configure a module that depends on one that is not strictly lower."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.tidy.modules import modules
from tests.tidy.tree import ROOT

PROJECT = """
cmake_minimum_required(VERSION 3.25)
project(tiny LANGUAGES CXX)
include("{root}/cpp/cmake/MillstreamModule.cmake")
{calls}
"""


def configure(folder: Path, calls: str) -> subprocess.CompletedProcess[str]:
    (folder / "CMakeLists.txt").write_text(PROJECT.format(root=ROOT, calls=calls))
    return subprocess.run(
        ["cmake", "-G", "Ninja", "-S", str(folder), "-B", str(folder / "build")],
        capture_output=True,
        text=True,
        check=False,
    )


def test_configure_accepts_a_dependency_on_a_lower_layer(tmp_path: Path) -> None:
    calls = "millstream_module(low LAYER 1)\nmillstream_module(high LAYER 2 DEPS millstream::low)\n"
    done = configure(tmp_path, calls)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("kind", ["DEPS", "PRIVATE_DEPS"])
def test_configure_refuses_a_dependency_that_is_not_lower(
    tmp_path: Path, layer: int, kind: str
) -> None:
    calls = (
        f"millstream_module(first LAYER 2)\n"
        f"millstream_module(second LAYER {layer} {kind} millstream::first)\n"
    )
    done = configure(tmp_path, calls)
    assert done.returncode != 0
    assert f"second (layer {layer}) may not depend on first (layer 2)" in " ".join(
        done.stderr.split()
    )


def test_configure_refuses_a_module_that_does_not_exist(tmp_path: Path) -> None:
    done = configure(tmp_path, "millstream_module(alone LAYER 3 DEPS millstream::nowhere)\n")
    assert done.returncode != 0
    assert "nowhere, which is not a module" in " ".join(done.stderr.split())


def test_promql_and_tsdb_meet_only_in_storage() -> None:
    assert "tsdb" not in modules()["promql"].depends_on
    assert "promql" not in modules()["tsdb"].depends_on
