"""What it costs to find out who calls: an API key that was seen before, and one that was not.

python -m benchmarks.python.auth_bench
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Final

from benchmarks.python.machine import machine
from millstream_gateway.schemas.access import Caller, Role
from millstream_gateway.schemas.keys import KeyRequest
from millstream_gateway.services.access import AccessControl
from millstream_gateway.services.authentication import ADMIN_KEY, Credentials
from millstream_gateway.settings import Settings, StorageSettings

ROUNDS: Final = 9
CHECKS: Final = 2_000
KEYS: Final = 100


def microseconds(check: Callable[[], object]) -> float:
    """The median over rounds of the mean processor time of one check."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.process_time()
        for _ in range(CHECKS):
            check()
        rounds.append((time.process_time() - began) / CHECKS * 1e6)
    return statistics.median(rounds)


def main() -> None:
    access = AccessControl(Settings(storage=StorageSettings(path=":memory:")))
    for number in range(KEYS):
        request = KeyRequest(f"k{number}", Role.USER, frozenset({"default"}))
        _, key = access.keys.create(Caller(ADMIN_KEY), request)
    credentials = Credentials((f"Bearer {key}".encode(),))
    authenticator = access.authenticator

    def remembered() -> object:
        return authenticator.authenticate(credentials, "192.0.2.1")

    def anew() -> object:
        authenticator._remembered.clear()
        return authenticator.authenticate(credentials, "192.0.2.1")

    slow, fast = microseconds(anew), microseconds(remembered)
    print(machine())
    print(f"a key among {KEYS}, checked anew   {slow:8.2f} us")
    print(f"the same key, seen before      {fast:8.2f} us, {slow / fast:.1f}x as fast")
    access.close()


if __name__ == "__main__":
    main()
