"""The parts of the listeners by themselves: cutting lines, waiting for room, counting gaps."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

import pytest

from millstream.errors import FailedPreconditionError
from millstream_gateway.services.listeners.intake import Intake
from millstream_gateway.services.listeners.sequences import Sequences
from millstream_gateway.services.listeners.sockets import bind_pair, check_exposure


def collecting(into: list[bytes], gate: asyncio.Event) -> Callable[[bytes], Awaitable[None]]:
    async def consume(batch: bytes) -> None:
        await gate.wait()
        into.append(batch)

    return consume


def test_intake_keeps_order_and_says_no_when_it_is_full() -> None:
    async def run() -> None:
        taken: list[bytes] = []
        gate = asyncio.Event()
        intake = Intake(collecting(taken, gate), 10)
        intake.start()
        assert intake.offer(b"12345")
        await asyncio.sleep(0)
        assert intake.offer(b"678")
        assert not intake.offer(b"xyz")
        told = asyncio.Event()
        intake.when_room(told.set)
        gate.set()
        await told.wait()
        assert intake.offer(b"90")
        assert await intake.close(5) == 0
        assert b"".join(taken) == b"1234567890"
        assert not intake.offer(b"late")

    asyncio.run(run())


def test_intake_that_cannot_hand_on_says_how_much_is_lost() -> None:
    async def run() -> None:
        intake = Intake(collecting([], asyncio.Event()), 10)
        intake.start()
        assert intake.offer(b"12345")
        assert await intake.close(0.01) == 5

    asyncio.run(run())


@pytest.mark.parametrize("seed", range(20))
def test_lost_datagrams_are_those_that_never_came(seed: int) -> None:
    chooser = random.Random(seed)
    sent = 2000
    missing = set(chooser.sample(range(1, sent - 100), 150))
    arriving = [number for number in range(sent) if number not in missing]
    # Neighbours change places, and some come twice.
    order = sorted(arriving, key=lambda number: number + chooser.uniform(0, 20))
    order = [0, *(number for number in order if number)]
    order += chooser.sample(order[-30:], 5)
    sequences = Sequences()
    assert sum(sequences.lost_at(7, number) for number in order) == len(missing)


def test_a_sender_that_begins_anew_has_lost_nothing() -> None:
    sequences = Sequences()
    assert sequences.lost_at(1, 5_000_000) == 0
    assert sequences.lost_at(1, 0) == 0
    assert sequences.lost_at(1, 1) == 0
    assert sequences.lost_at(2, 100) == 0
    assert sequences.lost_at(1, 1 + 1000) == 999 - 63


def test_a_pair_has_one_port_for_tcp_and_udp() -> None:
    pair = bind_pair("test", "127.0.0.1", 0)
    try:
        assert pair.stream.getsockname() == pair.datagram.getsockname()
        with pytest.raises(FailedPreconditionError, match="cannot listen for other"):
            bind_pair("other", "127.0.0.1", pair.stream.getsockname()[1])
    finally:
        pair.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]", "localhost"])
def test_loopback_needs_no_permission(host: str) -> None:
    check_exposure("graphite", host, allowed=False)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "example.org"])
def test_other_addresses_must_be_wanted(host: str) -> None:
    with pytest.raises(FailedPreconditionError, match=r"graphite\.allow_remote"):
        check_exposure("graphite", host, allowed=False)
    check_exposure("graphite", host, allowed=True)
