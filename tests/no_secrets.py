"""A pytest plugin that fails a test when a secret shows in a log: of a server that the test started, or its own.

    pytest -p tests.no_secrets …

Logs are what services write to the files of tests.services.process, and what a test's process writes to standard error
or to a logger. A secret is what has the form of one (a key, a JWT, a header with credentials, a password in a URL or
beside its name), or what a test registered with `keep_secret`.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

_FORMS = {
    "an API key": re.compile(r"\bms_[a-z0-9]{4,32}_[A-Za-z0-9_-]{16,}"),
    "a JWT": re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
    "an Authorization header": re.compile(
        r"(?i)\b(?:authorization\W{1,6})?\b(?:bearer|basic|token)\s+[A-Za-z0-9+/=_.~-]{16,}"
    ),
    "a password in a URL": re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/@:]*:[^\s/@*]{3,}@"),
    "a value beside its name": re.compile(
        r"(?i)\b(?:client_secret|password|refresh_token|access_token|admin_key)['\"]?\s*[=:]\s*"
        r"['\"]?(?!\*|None\b|null\b|<|\[)[^\s'\",;&*]{6,}"
    ),
}
# Nobody's secret: how the documents and the page write one.
_HARMLESS = re.compile(r"ms_<id>_<secret>|…|\*{3,}")

_logs: dict[Path, int] = {}
_registered: set[str] = set()


def watch(path: Path) -> None:
    """Look through this log, from its beginning."""
    _logs.setdefault(path, 0)


def keep_secret(value: str) -> str:
    """A value that must not show in any log from now on."""
    _registered.add(value)
    return value


def found_in(text: str) -> Iterator[str]:
    """What shows, in words that do not repeat the secret itself."""
    for line in text.splitlines():
        plain = _HARMLESS.sub("", line)
        for name, form in _FORMS.items():
            if match := form.search(plain):
                yield f"{name}: {_masked(plain, match.start(), match.end())}"
        for value in _registered:
            if (at := plain.find(value)) >= 0:
                yield f"a registered secret: {_masked(plain, at, at + len(value))}"


def _masked(line: str, begin: int, end: int) -> str:
    return f"{line[max(0, begin - 80) : begin]}{line[begin : begin + 6]}[…]{line[end : end + 40]}"


def _found_in_logs() -> Iterator[str]:
    for path, offset in list(_logs.items()):
        try:
            with path.open("rb") as file:
                file.seek(offset)
                new = file.read()
        except OSError:
            # Its folder is gone already.
            del _logs[path]
            continue
        # A line that is not whole yet comes again.
        whole = new.rfind(b"\n") + 1
        _logs[path] = offset + whole
        for what in found_in(new[:whole].decode(errors="replace")):
            yield f"{path.name}: {what}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turns the end of a test into a failure when a secret showed while it ran."""
    report = yield
    if call.when != "teardown":
        return report
    shown = [f"stderr: {what}" for what in found_in(report.capstderr)]
    shown += [f"log: {what}" for what in found_in(report.caplog)]
    shown += _found_in_logs()
    if shown and report.passed:
        report.outcome = "failed"
        report.longrepr = "secrets in logs:\n" + "\n".join(dict.fromkeys(shown))
    return report
