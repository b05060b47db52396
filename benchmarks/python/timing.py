"""How long something short takes."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Final

ROUNDS: Final = 9


def microseconds(check: Callable[[], object], checks: int) -> float:
    """The median over rounds of the mean processor time of one check, of so many in a row."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(checks):
            check()
        rounds.append((time.process_time() - began) / checks * 1e6)
    return statistics.median(rounds)
