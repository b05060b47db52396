"""What it costs to ask the limits before a request is let in, with the default and with all of them.

python -m benchmarks.python.limits_bench
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Final

from benchmarks.python.machine import machine
from millstream_gateway.schemas.access import Caller, Role
from millstream_gateway.schemas.access import Principal as Someone
from millstream_gateway.services.limits import Limiter
from millstream_gateway.settings import LimitsSettings, Settings

ROUNDS: Final = 9
CHECKS: Final = 5_000
MANY: Final = 10**9


def microseconds(check: Callable[[], object]) -> float:
    """The median over rounds of the mean processor time of one check."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(CHECKS):
            check()
        rounds.append((time.process_time() - began) / CHECKS * 1e6)
    return statistics.median(rounds)


def every_limit() -> LimitsSettings:
    names = [name for name in LimitsSettings.model_fields if name.endswith("_per_second")]
    return LimitsSettings(**dict.fromkeys(names, MANY))


def main() -> None:
    someone = Someone("key", "k", "k", Role.USER, frozenset(), frozenset({"default"}))
    caller = Caller(someone, client="192.0.2.1")
    print(machine())
    for name, limits in (
        ("no limits", LimitsSettings(json_requests_per_second=0)),
        ("the default (JSON requests)", LimitsSettings(json_requests_per_second=MANY)),
        ("all ten rates", every_limit()),
    ):
        limiter = Limiter(Settings(limits=limits))

        def ask(limiter: Limiter = limiter) -> object:
            admission = limiter.admit(caller, by_tenant=True, is_json=True, size=600)
            return admission and admission.headers()

        print(f"{name:<30} {microseconds(ask):8.2f} us")


if __name__ == "__main__":
    main()
