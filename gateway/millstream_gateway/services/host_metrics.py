"""CPU, memory, disk and network of this machine, as samples."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import psutil


@dataclass(frozen=True, slots=True)
class HostSample:
    """One value with what a reader needs to understand it."""

    name: str
    type: str
    help: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


def sample_host() -> Iterator[HostSample]:
    """Everything, once. Units are seconds and bytes."""
    yield from _cpu()
    yield from _memory()
    yield from _disk()
    yield from _network()


def _counter(name: str, text: str, value: float, **labels: str) -> HostSample:
    return HostSample(name, "counter", text, float(value), labels)


def _gauge(name: str, text: str, value: float, **labels: str) -> HostSample:
    return HostSample(name, "gauge", text, float(value), labels)


def _cpu() -> Iterator[HostSample]:
    for number, times in enumerate(psutil.cpu_times(percpu=True)):
        for mode, seconds in times._asdict().items():
            yield _counter(
                "host_cpu_seconds_total",
                "Time that a CPU spent in a mode.",
                seconds,
                cpu=str(number),
                mode=mode,
            )
    for minutes, load in zip((1, 5, 15), os.getloadavg(), strict=True):
        yield _gauge(
            f"host_load{minutes}", f"Processes that ran or waited, {minutes} minute mean.", load
        )
    yield _gauge("host_boot_time_seconds", "When the machine started.", psutil.boot_time())


def _memory() -> Iterator[HostSample]:
    text = "Memory, by state. States overlap: available counts what could be freed."
    for state, size in psutil.virtual_memory()._asdict().items():
        if state != "percent":
            yield _gauge("host_memory_bytes", text, size, state=state)
    swap = psutil.swap_memory()
    for state in ("total", "used", "free"):
        yield _gauge("host_swap_bytes", "Swap, by state.", getattr(swap, state), state=state)


def _disk() -> Iterator[HostSample]:
    for device, io in (psutil.disk_io_counters(perdisk=True) or {}).items():
        for name, text, value in (
            ("host_disk_read_bytes_total", "Bytes read from a device.", io.read_bytes),
            ("host_disk_written_bytes_total", "Bytes written to a device.", io.write_bytes),
            ("host_disk_reads_total", "Reads from a device.", io.read_count),
            ("host_disk_writes_total", "Writes to a device.", io.write_count),
        ):
            yield _counter(name, text, value, device=device)
    for partition in psutil.disk_partitions(all=False):
        try:
            usage = psutil.disk_usage(partition.mountpoint)
        except OSError:
            continue
        labels = {"mountpoint": partition.mountpoint, "fstype": partition.fstype}
        yield _gauge("host_filesystem_size_bytes", "Size of a file system.", usage.total, **labels)
        yield _gauge(
            "host_filesystem_free_bytes", "Free space of a file system.", usage.free, **labels
        )


def _network() -> Iterator[HostSample]:
    for device, io in psutil.net_io_counters(pernic=True).items():
        for name, text, value in (
            ("host_network_receive_bytes_total", "Bytes received.", io.bytes_recv),
            ("host_network_transmit_bytes_total", "Bytes sent.", io.bytes_sent),
            ("host_network_receive_packets_total", "Packets received.", io.packets_recv),
            ("host_network_transmit_packets_total", "Packets sent.", io.packets_sent),
            ("host_network_receive_errors_total", "Packets received in error.", io.errin),
            ("host_network_transmit_errors_total", "Packets not sent for an error.", io.errout),
        ):
            yield _counter(name, text, value, device=device)
