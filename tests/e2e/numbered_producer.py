"""An idempotent producer that can be killed: publishes numbers over native frames, and prints how many are acknowledged.

python -m tests.e2e.numbered_producer PORT TOPIC PARTITIONS EPOCH FIRST END

The number n goes to partition n % PARTITIONS with the sequence n // PARTITIONS, so a producer that starts anew behind
what it printed last sends what the one before may have sent, under the same sequences.
"""

from __future__ import annotations

import sys

from millstream import native

PRODUCER = "till-7"
BATCH = 20
# Batches under way when it looks for their answers.
ROUND = 10


def event_of(topic: str, partitions: int, n: int) -> native.Event:
    partition, sequence = n % partitions, n // partitions
    return native.Event(topic, str(n).encode(), partition=partition, sequence=sequence)


def main(topic: str, port: int, partitions: int, epoch: int, first: int, end: int) -> None:
    address = ("127.0.0.1", port)
    with native.connect_events(address, producer=(PRODUCER, epoch), timeout=60.0) as client:
        for begin in range(first, end, BATCH * ROUND):
            until = min(begin + BATCH * ROUND, end)
            for at in range(begin, until, BATCH):
                numbers = range(at, min(at + BATCH, until))
                client.publish(event_of(topic, partitions, n) for n in numbers)
            totals = client.flush()
            if totals.refused:
                sys.exit(f"refused: {totals.refusals[0]}")
            print(until, flush=True)


if __name__ == "__main__":
    _, port, topic, *numbers = sys.argv
    main(topic, int(port), *map(int, numbers))
