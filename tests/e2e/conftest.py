"""What the end-to-end tests need before the first of them starts."""

from __future__ import annotations

import pytest

from tests.services import artifacts


def pytest_collection_finish(session: pytest.Session) -> None:
    """Builds missing pinned programs here: in a test, the minutes that it takes would be the test's own."""
    wanted = any("scene" in getattr(item, "fixturenames", ()) for item in session.items)
    if wanted and not session.config.option.collectonly:
        for program in artifacts.ALL_PROGRAMS:
            artifacts.ensure(program)
