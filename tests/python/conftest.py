"""What tests of the package share."""

from __future__ import annotations

import importlib.util

import pytest

HAS_ENGINE = importlib.util.find_spec("millstream._core") is not None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs the compiled engine while there is none."""
    skip = pytest.mark.skip(reason="the compiled engine is not built")
    for item in items:
        if not HAS_ENGINE and item.get_closest_marker("needs_engine"):
            item.add_marker(skip)
