"""What came of a write."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ItemError:
    """Why one item of a batch was refused. ``position`` is its index, or its line in a text."""

    position: int
    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class PushOutcome:
    """Counts of what was stored, and the first reasons for what was not.

    ``errors`` is bounded (the core keeps the first 100); ``rejected`` counts all of them.
    """

    samples: int = 0
    histograms: int = 0
    exemplars: int = 0
    metadata: int = 0
    rejected: int = 0
    errors: tuple[ItemError, ...] = ()
    offset_token: str = ""

    @property
    def stored(self) -> int:
        """Samples of any kind that were stored; what describes them is not counted."""
        return self.samples + self.histograms
