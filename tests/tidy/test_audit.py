"""The audit of dependencies says what it found, and what it could not find out."""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def audit() -> ModuleType:
    spec = importlib.util.spec_from_file_location("audit", ROOT / "scripts" / "audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_line_of_the_lock_is_a_pin_that_the_audit_sees(audit: ModuleType) -> None:
    lines = [
        line
        for line in audit.LOCK.read_text().splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    assert len(audit.pinned(audit.LOCK.read_text())) == len(lines) > 100


def test_without_a_network_it_says_so_and_passes(
    audit: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        # Bound and not listening: nobody else can listen there meanwhile.
        monkeypatch.setattr(audit, "DATABASE", taken.getsockname())
        assert audit.audit(["a==1", "b==2"], []) == 0
    assert "NOT checked for known vulnerabilities, 2 pinned packages" in capsys.readouterr().err


def test_a_known_vulnerability_fails_and_names_the_remedy(
    audit: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    known = {"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}
    skipped = {"name": "b", "skip_reason": "not found"}
    assert audit.report([known, skipped]) == 1
    told = capsys.readouterr().err
    assert "a 1: PYSEC-1, mended in 2" in told
    assert "b was NOT checked: not found" in told
    assert audit.report([{"name": "a", "version": "1", "vulns": []}]) == 0
