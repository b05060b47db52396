"""Events: publishing, reading, fan-out over WebSockets, starting with much, and what rivals make of the same.

    python -m benchmarks.python.events_bench [fanout] [delay] [durable] [fast] [catchup] [start] [--rounds 3]
        [--seconds 10] [--redis BINARY] [--nats BINARY] [--kafka FOLDER_OF_JARS]

Without names everything is measured. The rivals are measured in turns with this server, within one run, and those whose
binary is not given are left out, which is said. Load generators are processes of their own, in C++ where Python would
be too slow (`build/release/benchmarks/cpp`), and take their share of the same cores; what a server's process spent does
not depend on them.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import re
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc

from benchmarks.python.http_bench import processor_seconds
from benchmarks.python.machine import ROOT, commit, machine
from millstream.v1 import events_pb2, events_pb2_grpc
from tests.services.http import Client
from tests.services.millstream import Millstream
from tests.services.node import Node

_LOADS = ROOT / "build/release/benchmarks/cpp"


@dataclass(frozen=True)
class Server:
    """Something that runs: what the load generators call it, and where it is."""

    name: str
    kind: str
    port: int
    pid: int
    # Makes a topic where they have to be made; what it is called.
    make: Callable[[str], str] = lambda topic: topic
    # Removes it, with its files.
    drop: Callable[[str], None] = lambda _topic: None


@contextlib.contextmanager
def millstream(root: Path, **settings: str) -> Iterator[Server]:
    # Publishing is not what is held back here.
    settings = {
        "MILLSTREAM_LIMITS__JSON_REQUESTS_PER_SECOND": "1000000",
        "MILLSTREAM_LIMITS__REQUESTS_PER_SECOND": "1000000",
        **settings,
    }
    with Millstream(root / "data", root / "log", env=settings) as server:
        port = urlsplit(server.url).port
        assert port is not None
        yield Server("Millstream", "millstream", port, server.pid)


@contextlib.contextmanager
def rival(kind: str, binary: Path, *arguments: str) -> Iterator[Server]:
    """A server that takes `{port}` among its arguments and listens there soon."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    told = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"\d+\.\d+[\w.-]*", told)
    command = [str(binary), *(one.format(port=port) for one in arguments)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        name = f"{kind} {version.group(0) if version else ''}"
        yield Server(name.strip(), kind, port, process.pid)
    finally:
        process.terminate()
        process.wait()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            if time.monotonic() > deadline or process.poll() is not None:
                raise
            time.sleep(0.02)


def make_topic(server: Server, name: str, **options: Any) -> None:
    with Client(f"http://127.0.0.1:{server.port}") as client:
        body = json.dumps({"name": name, **options}).encode()
        headers = {"Content-Type": "application/json"}
        answer = client.request("POST", "/v1/topics", body=body, headers=headers)
        assert answer.status == 201, answer.text


def load(tool: str, *arguments: object) -> dict[str, Any]:
    """What a load generator prints."""
    told = subprocess.run(
        [_LOADS / tool, *map(str, arguments)], stdout=subprocess.PIPE, check=True, text=True
    )
    found: dict[str, Any] = json.loads(told.stdout)
    return found


def fanout(servers: list[Server], options: argparse.Namespace) -> None:
    """1,000 subscribers, each of which gets 1,000 events a second."""
    runs: dict[str, list[dict[str, Any]]] = {server.name: [] for server in servers}
    for number in range(options.rounds):
        for server in servers:
            topic = f"fanout{number}"
            if server.kind == "millstream":
                make_topic(server, topic)
            before = processor_seconds(server.pid)
            found = load(
                "fanout_load",
                server.kind,
                server.port,
                options.subscribers,
                options.rate,
                options.seconds,
                topic,
            )
            found["cores"] = (processor_seconds(server.pid) - before) / found["seconds"]
            runs[server.name].append(found)
    print(f"fan-out: {options.subscribers} subscribers, {options.rate} events/s, 100 bytes")
    for name, all_found in runs.items():
        lost = sum(found["published"] - found["least"] for found in all_found)
        ordered = all(found["in_order"] for found in all_found)
        print(
            f"  {name:22} p50 {_median(all_found, 'p50_ms'):8.2f} ms  "
            f"p99 {_median(all_found, 'p99_ms'):8.2f} ms  cores {_median(all_found, 'cores'):5.2f}  "
            f"{_median(all_found, 'mb_per_second'):6.0f} MB/s  lost {lost}"
            f"{'' if ordered else '  OUT OF ORDER'}"
        )


def delay(servers: list[Server], options: argparse.Namespace) -> None:
    """From a request that publishes to a frame of an idle socket."""
    (server,) = (one for one in servers if one.kind == "millstream")
    make_topic(server, "delay")
    address = ("127.0.0.1", server.port)
    taken: list[float] = []
    with socket.create_connection(address) as listener, socket.create_connection(address) as sender:
        for one in (listener, sender):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.sendall(_HANDSHAKE)
        _receive_until(listener, b"\r\n\r\n")
        listener.sendall(_client_frame(b'{"op":"subscribe","id":"s","topics":["delay"]}'))
        _receive_until(listener, b'"subscription_id"')
        for number in range(options.rounds * 500):
            body = b'{"topic":"delay","payload":"event %d ends"}' % number
            request = (
                b"POST /v1/events HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
            ) + body
            began = time.perf_counter()
            sender.sendall(request)
            _receive_until(listener, b"event %d ends" % number)
            taken.append(time.perf_counter() - began)
            _receive_until(sender, b"}")
            time.sleep(0.002)
    taken.sort()
    print(
        f"HTTP publish to WebSocket, idle, {len(taken)} events: p50 {taken[len(taken) // 2] * 1e3:.2f} ms"
        f"  p99 {taken[len(taken) * 99 // 100] * 1e3:.2f} ms  most {taken[-1] * 1e3:.2f} ms"
    )


_HANDSHAKE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)


def _client_frame(text: bytes) -> bytes:
    # A client's frame must be masked; a mask of zeros leaves the text as it is.
    assert len(text) < 126
    return b"\x81" + bytes([0x80 | len(text)]) + bytes(4) + text


def _receive_until(connection: socket.socket, end: bytes) -> None:
    got = b""
    while end not in got:
        more = connection.recv(65536)
        assert more, f"the server closed after {got!r}"
        got += more


# Connections, batches in flight on each, events in a batch: 64 events are in flight in each. Of each server the shape
# counts that it is fastest with.
_DURABLE = ((1, 64, 1), (1, 1, 64), (64, 1, 1))
_FAST = ((1, 16, 100), (4, 8, 100))
# Until a server has removed a topic.
_PAUSE_SECONDS = 0.5


def publish(
    shapes: tuple[tuple[int, int, int], ...], options: argparse.Namespace, *, sync: bool
) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="millstream-bench-", dir=options.folder) as scratch,
        contextlib.ExitStack() as started,
    ):
        servers = list(_kept(Path(scratch), started, options, sync=sync))
        best: dict[str, dict[str, Any]] = {}
        for shape in shapes:
            runs: dict[str, list[dict[str, Any]]] = {server.name: [] for server in servers}
            for number in range(options.rounds):
                for server in servers:
                    topic = f"load_{'_'.join(map(str, shape))}_{number}_{server.kind}"
                    topic = server.make(topic)
                    before = processor_seconds(server.pid)
                    found = load(
                        "publish_load", server.kind, server.port, *shape, options.seconds, topic
                    )
                    found["cpu"] = processor_seconds(server.pid) - before
                    runs[server.name].append(found)
                    # The next one finds memory for its files. Where nothing is removed, a virtual machine soon writes
                    # to memory that its host must find first, and that is what is measured, whatever the server.
                    server.drop(topic)
                    time.sleep(_PAUSE_SECONDS)
            for name, found_all in runs.items():
                found = {
                    "shape": shape,
                    "rate": _median(found_all, "per_second"),
                    "per_cpu": statistics.median(one["events"] / one["cpu"] for one in found_all),
                    "p50_ms": _median(found_all, "p50_ms"),
                    "p99_ms": _median(found_all, "p99_ms"),
                }
                if name not in best or best[name]["rate"] < found["rate"]:
                    best[name] = found
        ours = next(iter(best.values()))
        for name, found in best.items():
            connections, batches, events = found["shape"]
            print(
                f"  {name:26} {found['rate']:12,.0f} events/s  {found['per_cpu']:12,.0f} events/CPU s  "
                f"p50 {found['p50_ms']:7.2f} ms  p99 {found['p99_ms']:7.2f} ms  "
                f"({connections} connections, {batches} batches of {events})"
                f"  the first has {ours['rate'] / found['rate']:.2f} and {ours['per_cpu'] / found['per_cpu']:.2f} times that"
            )


def durable(_servers: list[Server], options: argparse.Namespace) -> None:
    """Acknowledged after fsync."""
    print("durable: 256 bytes, acknowledged after fsync, 64 events in flight")
    publish(_DURABLE, options, sync=True)


def fast(_servers: list[Server], options: argparse.Namespace) -> None:
    """Acknowledged when the process has it."""
    print("fast: 256 bytes in batches of 100, acknowledged before fsync")
    publish(_FAST, options, sync=False)


def catchup(_servers: list[Server], options: argparse.Namespace) -> None:
    """One reader of a topic that lies in the page cache."""
    print(f"catch-up: a topic of {options.megabytes} MB, 256 bytes an event, from the page cache")
    wanted = options.megabytes * 1_000_000 // 256
    with (
        tempfile.TemporaryDirectory(prefix="millstream-bench-", dir=options.folder) as scratch,
        contextlib.ExitStack() as started,
    ):
        for server in _kept(Path(scratch), started, options, sync=False):
            if server.kind not in ("native", "kafka"):
                continue
            topic = server.make("catchup")
            stored = 0
            while stored < wanted:
                stored += load("publish_load", server.kind, server.port, 1, 8, 100, 1, topic)[
                    "events"
                ]
            runs = []
            for _ in range(options.rounds):
                before = processor_seconds(server.pid)
                found = load("read_load", server.kind, server.port, topic, wanted)
                found["cores"] = (processor_seconds(server.pid) - before) / found["seconds"]
                runs.append(found)
            print(
                f"  {server.name:26} {_median(runs, 'mb_per_second'):7.0f} MB/s  "
                f"{_median(runs, 'per_second'):12,.0f} events/s  cores {_median(runs, 'cores'):5.2f}"
            )


def start(_servers: list[Server], options: argparse.Namespace) -> None:
    """A node that knows many topics and offsets of groups."""
    with tempfile.TemporaryDirectory(prefix="millstream-bench-", dir=options.folder) as scratch:
        root = Path(scratch)
        with _node(root, sync=False) as running, grpc.insecure_channel(running.address) as channel:
            stub: Any = events_pb2_grpc.EventServiceStub(channel)  # type: ignore[no-untyped-call]
            names = [f"topic{number}" for number in range(options.topics)]
            for first in range(0, len(names), 1000):
                calls = [
                    stub.CreateTopic.future(events_pb2.CreateTopicRequest(name=name))
                    for name in names[first : first + 1000]
                ]
                for call in calls:
                    call.result()
            for group in range(options.offsets // len(names)):
                for first in range(0, len(names), 1000):
                    offsets = [
                        events_pb2.TopicOffset(topic=name, partition=0, offset=0)
                        for name in names[first : first + 1000]
                    ]
                    stub.Commit(events_pb2.CommitRequest(group=f"group{group}", offsets=offsets))
        taken = []
        for _ in range(options.rounds):
            began = time.perf_counter()
            with _node(root, sync=False) as running:
                taken.append(time.perf_counter() - began)
                told = Path(f"/proc/{running.pid}/status").read_text()
        memory = re.search(r"VmRSS:\s*(\d+) kB", told)
        assert memory is not None
    print(
        f"start with {options.topics:,} topics and {options.offsets:,} offsets of groups: "
        f"{statistics.median(taken):.2f} s, {int(memory.group(1)) / 1024:.0f} MiB resident"
    )


def _node(root: Path, *, sync: bool) -> Node:
    durability = "fsync" if sync else "process"
    arguments = ["--durability", durability, "--native", "127.0.0.1:0"]
    return Node(root / "data", root / "log", arguments=arguments)


def _kept(
    root: Path, started: contextlib.ExitStack, options: argparse.Namespace, *, sync: bool
) -> Iterator[Server]:
    """Servers that keep events; what they are compared with comes after this project's."""
    yield from _node_servers(root / "node", started, sync=sync)
    if options.nats:
        settings = root / "nats.conf"
        interval = "sync_interval: always" if sync else ""
        settings.write_text(f'jetstream {{ store_dir: "{root}/nats", {interval} }}\n')
        arguments = ("-a", "127.0.0.1", "-p", "{port}", "-c", str(settings))
        server = started.enter_context(rival("nats", options.nats, *arguments))
        yield replace(server, drop=functools.partial(_drop_nats_stream, server.port))
    if options.kafka:
        yield started.enter_context(kafka(options.kafka, root / "kafka", sync=sync))


def _node_servers(root: Path, started: contextlib.ExitStack, *, sync: bool) -> Iterator[Server]:
    running = started.enter_context(_node(root, sync=sync))
    channel = started.enter_context(grpc.insecure_channel(running.address))
    stub: Any = events_pb2_grpc.EventServiceStub(channel)  # type: ignore[no-untyped-call]

    def make(topic: str) -> str:
        stub.CreateTopic(events_pb2.CreateTopicRequest(name=topic))
        return topic

    def make_in_memory(topic: str) -> str:
        name = f"{topic}_in_memory"
        durability = events_pb2.TOPIC_DURABILITY_EPHEMERAL
        stub.CreateTopic(events_pb2.CreateTopicRequest(name=name, durability=durability))
        return name

    def drop(topic: str) -> None:
        stub.DeleteTopic(events_pb2.DeleteTopicRequest(name=topic))

    native, rpc = running.address_of("native")[1], running.address_of("grpc")[1]
    yield Server("Millstream, native frames", "native", native, running.pid, make, drop)
    yield Server("Millstream, gRPC stream", "grpc", rpc, running.pid, make, drop)
    if not sync:
        yield Server("… to a topic in memory", "grpc", rpc, running.pid, make_in_memory, drop)


@contextlib.contextmanager
def kafka(jars: Path, root: Path, *, sync: bool) -> Iterator[Server]:
    with (
        socket.create_server(("127.0.0.1", 0)) as one,
        socket.create_server(("127.0.0.1", 0)) as two,
    ):
        port, controller = one.getsockname()[1], two.getsockname()[1]
    root.mkdir(parents=True)
    settings = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "listeners": f"PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}",
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": f"1@127.0.0.1:{controller}",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": root / "logs",
        "offsets.topic.replication.factor": 1,
        "log.segment.delete.delay.ms": 0,
        **({"log.flush.interval.messages": 1} if sync else {}),
    }
    properties = root / "server.properties"
    properties.write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    java = ["java", "-Xmx1g", "-XX:+UseG1GC", "-cp", f"{jars}/*"]
    format_arguments = ["format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c", str(properties)]
    subprocess.run(
        [*java, "kafka.tools.StorageTool", *format_arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    process = subprocess.Popen(
        [*java, "kafka.Kafka", str(properties)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_for(port, process)
        version = next(jars.glob("kafka_*.jar")).stem.rpartition("-")[2]

        def make(topic: str) -> str:
            _make_kafka_topic(port, topic)
            return topic

        def drop(topic: str) -> None:
            _drop_kafka_topic(port, topic)

        yield Server(f"kafka {version}", "kafka", port, process.pid, make, drop)
    finally:
        process.kill()
        process.wait()


def _make_kafka_topic(port: int, name: str) -> None:
    """CreateTopics, version 2, then Metadata, version 4, until the partition has a leader.

    The tool that does this comes with Kafka's distribution and not with the broker's jars. Source:
    https://kafka.apache.org/protocol.
    """
    text = struct.pack(">h", len(name)) + name.encode()
    # Count of topics, name, partitions, replicas, no assignments, no settings; timeout, not only to be checked.
    create = struct.pack(">i", 1) + text + struct.pack(">ihiiib", 1, 1, 0, 0, 10_000, 0)
    with socket.create_connection(("127.0.0.1", port)) as connection:
        answer = _ask_kafka(connection, 19, 2, create)
        (error,) = struct.unpack_from(">h", answer, 4 + 4 + len(text))
        assert error == 0, f"Kafka's error {error}"
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            answer = _ask_kafka(connection, 3, 4, struct.pack(">i", 1) + text + b"\0")
            # A topic without an error that has a partition without one.
            if struct.pack(">h", 0) + text + struct.pack(">bih", 0, 1, 0) in answer:
                return
            time.sleep(0.02)
    raise TimeoutError(f"topic {name} has no leader")


def _drop_kafka_topic(port: int, name: str) -> None:
    """DeleteTopics, version 1."""
    text = struct.pack(">h", len(name)) + name.encode()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        answer = _ask_kafka(
            connection, 20, 1, struct.pack(">i", 1) + text + struct.pack(">i", 10_000)
        )
    (error,) = struct.unpack_from(">h", answer, len(answer) - 2)
    assert error == 0, f"Kafka's error {error}"


def _drop_nats_stream(port: int, name: str) -> None:
    request = f"SUB _INBOX.drop 1\r\nPUB $JS.API.STREAM.DELETE.{name} _INBOX.drop 0\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b'CONNECT {"verbose":false,"pedantic":false}\r\n' + request.encode())
        with connection.makefile("rb") as stream:
            # Its own greeting comes first.
            answer = next(line for line in stream if line.startswith(b"{"))
    assert b'"success":true' in answer, answer


def _ask_kafka(connection: socket.socket, call: int, version: int, body: bytes) -> bytes:
    header = struct.pack(">hhih", call, version, 1, -1)
    connection.sendall(struct.pack(">i", len(header) + len(body)) + header + body)
    with connection.makefile("rb") as stream:
        (length,) = struct.unpack(">i", stream.read(4))
        return stream.read(length)[4:]


def _median(runs: list[dict[str, Any]], name: str) -> float:
    return float(statistics.median(run[name] for run in runs))


FIGURES: dict[str, Callable[[list[Server], argparse.Namespace], None]] = {
    "fanout": fanout,
    "delay": delay,
    "durable": durable,
    "fast": fast,
    "catchup": catchup,
    "start": start,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=", ".join(FIGURES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=10, help="of each measurement")
    parser.add_argument("--subscribers", type=int, default=1000)
    parser.add_argument("--rate", type=int, default=1000, help="events a second, of fan-out")
    parser.add_argument("--megabytes", type=int, default=1500, help="of events, of catchup")
    parser.add_argument("--topics", type=int, default=100_000, help="of start")
    parser.add_argument("--offsets", type=int, default=1_000_000, help="of groups, of start")
    parser.add_argument("--folder", type=Path, help="for what the servers store; /tmp")
    parser.add_argument("--redis", type=Path, metavar="BINARY")
    parser.add_argument("--nats", type=Path, metavar="BINARY")
    parser.add_argument(
        "--kafka", type=Path, metavar="FOLDER", help="with Kafka's jars and what they need"
    )
    options = parser.parse_args()
    print(f"commit {commit()} on {machine()}; medians of {options.rounds}")
    for name in ("redis", "nats", "kafka"):
        if getattr(options, name) is None:
            print(f"without {name}: --{name} does not say where it is")
    for name in options.figures or FIGURES:
        with (
            tempfile.TemporaryDirectory(prefix="millstream-bench-") as scratch,
            contextlib.ExitStack() as started,
        ):
            root = Path(scratch)
            if name not in ("fanout", "delay"):
                FIGURES[name]([], options)
                continue
            servers = [started.enter_context(millstream(root))]
            if options.redis:
                servers.append(
                    started.enter_context(
                        rival("redis", options.redis, "--port", "{port}", "--save", "")
                    )
                )
            if options.nats:
                servers.append(
                    started.enter_context(
                        rival("nats", options.nats, "-a", "127.0.0.1", "-p", "{port}")
                    )
                )
            FIGURES[name](servers, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
