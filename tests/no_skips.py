"""A pytest plugin that makes a skipped test a failure: where everything is built, nothing has a reason to skip.

    pytest -p tests.no_skips …

The one reason that counts is a test that needs root when the run is not root's.
"""

from __future__ import annotations

import os

import pytest

_skipped: list[str] = []


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Remembers what was skipped."""
    if report.skipped and not (os.geteuid() != 0 and "needs root" in str(report.longrepr)):
        _skipped.append(report.nodeid)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turns success into failure when something was skipped."""
    if _skipped and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says why."""
    if _skipped:
        terminalreporter.write_line(f"{len(_skipped)} tests were skipped, which fails this run")
