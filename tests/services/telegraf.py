"""A real Telegraf that reads a file of Influx lines and sends them by one output."""

from __future__ import annotations

from pathlib import Path

from tests.services import artifacts
from tests.services.process import Process

RUN_DEADLINE_SECONDS = 60.0
_AGENT = """
[agent]
  interval = "1s"
  flush_interval = "1s"
  omit_hostname = true
  metric_batch_size = 1000
  metric_buffer_limit = 100000
  skip_processors_after_aggregators = true

[[inputs.file]]
  files = ["{file}"]
  data_format = "influx"
"""


class Telegraf(Process):
    """Gathers `file` once, sends all of it by `output` (a part of its configuration) and ends."""

    def __init__(self, file: Path, output: str, log_dir: Path) -> None:
        log_dir.mkdir(parents=True, exist_ok=True)
        config = log_dir / "telegraf.conf"
        config.write_text(_AGENT.format(file=file) + output)
        program = artifacts.ensure(artifacts.TELEGRAF)
        super().__init__("telegraf", [program, "--config", config, "--once"], log_dir)

    def wait_done(self) -> int:
        """Its exit status."""
        return self.wait_exit(RUN_DEADLINE_SECONDS)
