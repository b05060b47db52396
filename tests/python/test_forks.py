"""A child of a process that has something open: told clearly, not killed, and never stuck."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

OPENS = """
import atexit, os, signal, sys
import millstream
from millstream.errors import UnavailableError

db = millstream.open(sys.argv[1])
topic = db.topic("t")
topic.publish(1)
tail = topic.subscribe(offset="earliest", timeout=0)
next(tail)
group = topic.subscribe(offset="earliest", timeout=0, group="g")
producer = topic.producer()
producer.publish(2).result()
parent = os.getpid()

def refused(verb):
    try:
        verb()
    except UnavailableError as error:
        assert f"opened by process {parent}; open it anew after fork" in str(error), error
    else:
        raise AssertionError("it was not refused")

child = os.fork()
if child == 0:
    signal.alarm(60)
"""
ENDS = """
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
assert topic.publish(3).offset == 2
assert producer.publish(4).result().offset == 3
producer.close()
db.close()
print("child", status)
"""


@pytest.mark.parametrize(
    "does",
    [
        "sys.exit(3)",
        "db.close(); producer.close(); tail.close(); sys.exit(3)",
        "del db, topic, tail, group, producer; sys.exit(3)",
        "del db, topic, tail, group; os._exit(3)",
        "refused(lambda: topic.publish(2)); sys.exit(3)",
        "refused(lambda: db.topic('u').publish(2)); refused(topic.fetch); sys.exit(3)",
        "refused(lambda: db.query('up')); refused(db.topics); refused(db.label_names); sys.exit(3)",
        "refused(lambda: db.write('m', timestamps=[1], values=[1])); sys.exit(3)",
        "refused(lambda: next(tail)); refused(lambda: next(group)); sys.exit(3)",
        "refused(lambda: producer.publish(2)); refused(producer.flush); sys.exit(3)",
        "millstream.open(':memory:').topic('x').publish(1); sys.exit(3)",
        # A child of the child says who opened it, too.
        "grand = os.fork()\n    refused(db.topics)\n"
        "    if grand == 0: sys.exit(3)\n"
        "    sys.exit(os.waitstatus_to_exitcode(os.waitpid(grand, 0)[1]))",
    ],
)
def test_what_was_opened_before_a_fork_is_refused_in_the_child_and_harms_nobody(
    tmp_path: Path, does: str
) -> None:
    program = f"{OPENS}    {does}\n{ENDS}"
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, str(tmp_path / "data")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.stdout == "child 3\n", ended.stderr


def test_a_buffer_of_a_client_is_refused_in_a_child_and_its_exit_does_not_wait_for_it() -> None:
    program = """
import os, signal, sys
import millstream
from millstream.errors import UnavailableError

# Nobody is there; what is taken waits.
db = millstream.connect("http://127.0.0.1:9")
buffer = db.buffered(batch_age="1h")
buffer.write("m", timestamps=[1], values=[1])
child = os.fork()
if child == 0:
    signal.alarm(60)
    try:
        buffer.write("m", timestamps=[2], values=[1])
    except UnavailableError as error:
        assert "opened by process" in str(error), error
        sys.exit(3)
    sys.exit(4)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), buffer.samples_waiting, flush=True)
os._exit(0)
"""
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.stdout == "3 1\n", ended.stderr
