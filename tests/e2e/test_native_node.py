"""Native frames of a node, with our clients in Python and in C++, TLS, and kill -9."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from millstream import native
from millstream.errors import InvalidArgumentError, PermissionDeniedError
from tests.gateway.tls_support import (
    Authority,
    client_context,
    connect,
    serial_of,
    serial_shown,
)
from tests.services.http import Client
from tests.services.listeners import Listening, own_metric, wait_for_value
from tests.services.millstream import Millstream
from tests.services.node import Node, built
from tests.services.process import wait_until

pytestmark = pytest.mark.e2e

STEPS = 20_000
VALUES = 'millstream_listener_values_total{listener="native"}'


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def example(
    address: tuple[str, int], first_ms: int, steps: int, *who: str
) -> subprocess.Popen[str]:
    """The example program of the client in C++."""
    host, port = address
    command: list[str | Path] = [built("native/native_example"), host, str(port)]
    command += [str(first_ms), str(steps), *who]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        out, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, out, errors


def test_both_clients_write_through_kill_9_and_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    data, logs = tmp_path / "data", tmp_path / "logs"
    first = now_ms() - 3_600_000
    node = Node(data, logs, arguments=["--native", "127.0.0.1:0"])
    port = node.address_of("native")[1]
    running = example(("127.0.0.1", port), first, STEPS)
    try:
        with native.connect(f"127.0.0.1:{port}") as sender:
            refs = sender.series([{"__name__": "python_client", "n": str(n)} for n in range(10)])
            for step in range(100):
                sender.write(refs, np.full(10, first + step), np.full(10, float(step)))
            assert sender.flush().samples == 1000
            with Client(node.health_url) as client:
                wait_until("some came", 30, lambda: own_metric(client, VALUES) > 3000)
            node.kill()
            assert running.poll() is None, "it was over before the kill"
            node = Node(data, logs, arguments=["--native", f"127.0.0.1:{port}"])
            for step in range(100, 200):
                sender.write(refs, np.full(10, first + step), np.full(10, float(step)))
            sender.flush()
            assert sender.connections == 2
        assert said(running) == (0, f"{2 * STEPS} samples acknowledged, 0 refused\n", "")
        with (
            Millstream(tmp_path / "unused", logs, arguments=["--nodes", node.address]) as gateway,
            Client(gateway.url) as client,
        ):
            wait_for_value(client, "count(count_over_time(python_client[2h]) == 200)", 10)
            wait_for_value(client, "sum(sum_over_time(python_client[2h]))", 10 * 199 * 100)
            wait_for_value(client, f"count(count_over_time(cpp_client_load[2h]) == {STEPS})", 2)
            total = sum(0.5 * step + 2.0 * step for step in range(STEPS))
            wait_for_value(client, "sum(sum_over_time(cpp_client_load[2h]))", total)
    finally:
        running.kill()
        running.communicate()
        node.kill()


def test_client_in_cpp_writes_to_a_server_with_its_key(tmp_path: Path) -> None:
    admin = "an-admin-key-for-this-test"
    settings: dict[str, dict[str, Any]] = {"native": {"port": 0}, "auth": {"admin_key": admin}}
    with Listening(tmp_path / "data", tmp_path / "logs", settings) as server:
        address = server.address_of("native")
        code, out, _ = said(example(address, now_ms() - 1000, 100, admin))
        assert (code, out) == (0, "200 samples acknowledged, 0 refused\n")
        code, out, errors = said(example(address, now_ms(), 1, "ms_x_y"))
        assert (code, out) == (1, "")
        assert "credentials" in errors


def test_with_tls_a_node_answers_only_certificates_with_an_allowed_name(tmp_path: Path) -> None:
    authority = Authority(tmp_path / "certs")
    certificate, key = authority.issue("node")
    arguments = [
        *("--native", "127.0.0.1:0", "--tls-cert", str(certificate), "--tls-key", str(key)),
        *("--tls-client-ca", str(authority.ca), "--tls-allowed-names", "gateway,spiffe://mill/x"),
    ]
    with Node(tmp_path / "data", tmp_path / "logs", arguments=arguments) as node:
        address = node.address_of("native")
        for names in (("gateway",), ("other", "spiffe://mill/x")):
            context = client_context(authority.ca, authority.issue("client", names))
            with native.connect(address, tls=context, server_name="localhost") as sender:
                refs = sender.series([{"__name__": "secret", "n": str(n)} for n in range(1000)])
                for step in range(20):
                    sender.write(refs, np.full(1000, now_ms() + step), np.ones(1000))
                assert sender.flush().samples == 20_000
        shown = authority.issue("client", ("gateway",))
        who = ("", "", str(authority.ca), *map(str, shown))
        code, out, errors = said(example(address, now_ms(), 100, *who, "localhost"))
        assert (code, out, errors) == (0, "200 samples acknowledged, 0 refused\n", "")
        code, out, errors = said(example(address, now_ms(), 100, *who, "elsewhere"))
        assert code == 1
        assert "certificate" in errors
        context = client_context(authority.ca, authority.issue("client", ("elsewhere",)))
        with pytest.raises(PermissionDeniedError, match="allowed-names"):
            native.connect(address, tls=context, server_name="localhost")
        context = client_context(authority.ca, authority.issue("client", ("gateway",)))
        with pytest.raises(InvalidArgumentError, match="by number"):
            native.connect(address, tls=context, server_name="localhost", tenant="shop")
        strange = Authority(tmp_path / "strange")
        context = client_context(authority.ca, strange.issue("client", ("gateway",)))
        with pytest.raises(Exception, match="within"):
            native.connect(address, tls=context, server_name="localhost", timeout=0.5)


def test_a_node_takes_new_certificates_and_ends_connections_of_names_that_are_gone(
    tmp_path: Path,
) -> None:
    authority = Authority(tmp_path / "certs")
    certificate, key = authority.issue("node")
    names = tmp_path / "names"
    names.write_text("gateway\nstays\n")
    arguments = [
        *("--native", "127.0.0.1:0", "--tls-cert", str(certificate), "--tls-key", str(key)),
        *("--tls-client-ca", str(authority.ca), "--tls-allowed-names-file", str(names)),
    ]
    with Node(tmp_path / "data", tmp_path / "logs", arguments=arguments) as node:
        address = node.address_of("native")
        goes = client_context(authority.ca, authority.issue("client", ("gateway",)))
        stays = client_context(authority.ca, authority.issue("client", ("stays",)))
        with (
            native.connect(address, tls=goes, server_name="localhost") as one,
            native.connect(address, tls=stays, server_name="localhost") as other,
        ):
            refs = {
                sender: sender.series([{"__name__": f"kept_{n}"}])
                for n, sender in enumerate((one, other))
            }

            def write(sender: native.Client) -> int:
                sender.write(refs[sender], np.full(1, now_ms()), np.ones(1))
                return sender.flush().samples

            assert (write(one), write(other)) == (1, 1)
            authority.issue("node")

            def is_new() -> bool:
                with connect(address[1], stays) as fresh:
                    return serial_shown(fresh) == serial_of(certificate)

            wait_until("a new connection gets the new certificate", 10, is_new)
            # Those that are open go on, with the certificate that they began with.
            assert (write(one), one.connections) == (2, 1)
            begun = time.monotonic()
            names.write_text("stays\n")

            def is_over() -> bool:
                try:
                    write(one)
                except PermissionDeniedError:
                    return True
                return False

            wait_until("the connection is over", 10, is_over)
            assert time.monotonic() - begun < 5
            assert (write(other), other.connections) == (2, 1)
