"""A real Prometheus: scrapes, answers PromQL, sends remote write, and receives it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.services import artifacts
from tests.services.http import answers_ok
from tests.services.process import Process, ServiceError, free_port

READY_DEADLINE_SECONDS = 60.0
START_ATTEMPTS = 3


@dataclass(frozen=True)
class PrometheusConfig:
    """What to scrape every second and where to send it.

    `scrape` maps a job to its addresses; the job `prometheus` is Prometheus itself and always there unless
    `scrape_itself` is off.
    """

    scrape: Mapping[str, Sequence[str]] = field(default_factory=dict)
    remote_write_urls: Sequence[str] = ()
    # What every remote_write section says besides, such as `authorization`.
    remote_write_extra: Mapping[str, Any] = field(default_factory=dict)
    # Whole remote_write and remote_read sections, beside those of the URLs.
    remote_write: Sequence[Mapping[str, Any]] = ()
    remote_read: Sequence[Mapping[str, Any]] = ()
    # What the scrape_config of a job says besides.
    scrape_extra: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    # Names for --enable-feature.
    features: Sequence[str] = ()
    # The section `otlp`; when it is there the receiver is on.
    otlp: Mapping[str, Any] | None = None
    scrape_itself: bool = True
    scrape_interval: str = "1s"

    def render(self, own_address: str) -> str:
        """The configuration file; JSON is YAML."""
        jobs: dict[str, Sequence[str]] = dict(self.scrape)
        if self.scrape_itself:
            jobs["prometheus"] = [own_address]
        document: dict[str, Any] = {
            "global": {
                "scrape_interval": self.scrape_interval,
                "scrape_timeout": self.scrape_interval,
                "evaluation_interval": "1m",
            },
            "scrape_configs": [
                {
                    "job_name": job,
                    "scrape_native_histograms": True,
                    "always_scrape_classic_histograms": True,
                    "static_configs": [{"targets": list(addresses)}],
                    **self.scrape_extra.get(job, {}),
                }
                for job, addresses in jobs.items()
            ],
            "remote_write": [
                {
                    "send_native_histograms": True,
                    "queue_config": {
                        "batch_send_deadline": "500ms",
                        "min_backoff": "30ms",
                        "max_backoff": "500ms",
                    },
                    **section,
                }
                for section in (
                    *({**self.remote_write_extra, "url": url} for url in self.remote_write_urls),
                    *self.remote_write,
                )
            ],
            "remote_read": list(self.remote_read),
        }
        if self.otlp is not None:
            document["otlp"] = dict(self.otlp)
        return json.dumps(document, indent=1)


class Prometheus(Process):
    """Prometheus of the pinned version; ready when constructed."""

    def __init__(
        self, folder: Path, config: PrometheusConfig, *, receive_remote_write: bool = False
    ) -> None:
        last: ServiceError | None = None
        for _ in range(START_ATTEMPTS):
            try:
                self._start(folder, config, receive_remote_write)
                return
            except ServiceError as error:
                # Another process may take the port between the choice and the start; nothing else is retried.
                if "address already in use" not in str(error):
                    raise
                last = error
        raise ServiceError(f"no free port for Prometheus: {last}")

    def _start(self, folder: Path, config: PrometheusConfig, receive_remote_write: bool) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.address}"
        config_path = folder / "prometheus.json"
        config_path.write_text(config.render(self.address))
        command: list[str | Path] = [
            artifacts.ensure(artifacts.PROMETHEUS),
            f"--config.file={config_path}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={self.address}",
            "--storage.tsdb.retention.time=1d",
            "--query.lookback-delta=5m",
        ]
        if config.features:
            command.append(f"--enable-feature={','.join(config.features)}")
        if config.otlp is not None:
            command.append("--web.enable-otlp-receiver")
        if receive_remote_write:
            command.append("--web.enable-remote-write-receiver")
        super().__init__("prometheus", command, folder)
        self.wait_ready(
            "answers /-/ready", READY_DEADLINE_SECONDS, lambda: answers_ok(self.url, "/-/ready")
        )
