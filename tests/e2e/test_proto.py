"""The proto files: as their style guide asks, and readable by programs built with older ones.

tests/golden/proto/millstream.binpb is what those older programs know: made anew with a release by
`python -m tests.services.buf build proto --exclude-source-info -o tests/golden/proto/millstream.binpb`.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.services.buf import buf

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).resolve().parents[2]
PROTO = ROOT / "proto"
KNOWN = ROOT / "tests" / "golden" / "proto" / "millstream.binpb"


def changed(folder: Path, old: str, new: str) -> Path:
    """A copy of the proto files with one change."""
    copy = folder / "proto"
    shutil.copytree(PROTO, copy)
    file = copy / "millstream" / "v1" / "ingest.proto"
    text = file.read_text()
    assert text.count(old) == 1, f"{old!r} is not in {file.name} once"
    file.write_text(text.replace(old, new))
    return copy


def test_the_proto_files_are_as_the_style_guide_asks(tmp_path: Path) -> None:
    done = buf("lint", PROTO)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    bad = buf("lint", changed(tmp_path, "bytes body = ", "bytes Body = "))
    assert "lower_snake_case" in bad.stdout


def test_programs_built_with_older_proto_files_still_understand_us() -> None:
    done = buf("breaking", PROTO, "--against", KNOWN)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_a_change_that_older_programs_would_misread_is_found(tmp_path: Path) -> None:
    copy = changed(tmp_path, "bytes body = ", "string body = ")
    done = buf("breaking", copy, "--against", KNOWN)
    assert done.returncode != 0
    assert '"body"' in done.stdout
