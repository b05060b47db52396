"""Run by scripts/wheel.sh with the interpreter of a fresh environment that holds only the wheel.

    python -I check_wheel.py base|extras

`base`: what `pip install millstream` must give. `extras`: what `[gateway,notebook]` adds.
"""

from __future__ import annotations

import importlib.metadata
import importlib.resources
import json
import re
import subprocess
import sys
import tempfile
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np

import millstream
from millstream import _core

START = 1_700_000_000_000
STEP_MS = 15_000
COUNT = 240
END = START + (COUNT - 1) * STEP_MS
COMMAND = Path(sys.executable).with_name("millstream")


def check(condition: bool, message: str) -> None:
    """An assertion that stays on under -O."""
    if not condition:
        sys.exit(f"the wheel does not work: {message}")


def check_base() -> None:
    """Open, write, close, open again, query; from Python and from the command line."""
    check("site-packages" in str(millstream.__file__), f"imported from {millstream.__file__}")
    version = importlib.metadata.version("millstream")
    check(_core.version() == version, f"the core is {_core.version()}, not {version}")
    package = importlib.resources.files("millstream")
    for name in ("py.typed", "_core.pyi"):
        check(package.joinpath(name).is_file(), f"no {name}")
    with tempfile.TemporaryDirectory() as folder:
        timestamps = START + np.arange(COUNT, dtype=np.int64) * STEP_MS
        with millstream.open(folder) as db:
            db.write(
                "requests_total",
                {"host": "a"},
                timestamps=timestamps,
                values=np.arange(COUNT) * 30.0,
            )
        done = subprocess.run(
            [
                *(COMMAND, "query", "max_over_time(requests_total[5m])", "--data", folder),
                *("--time", str(END // 1000), "--output", "json"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        check(done.returncode == 0, f"millstream query: {done.stderr}")
        newest = f'"{30 * (COUNT - 1)}"'
        check(newest in done.stdout, f"{newest} is not in {done.stdout[:500]}")
    for absent in ("fastapi", "pandas"):
        check(absent not in sys.modules, f"importing millstream imports {absent}")


def check_extras() -> None:
    """The page is in the wheel, and the server starts, takes a sample and gives it back."""
    page = importlib.resources.files("millstream_gateway").joinpath("static", "index.html")
    check(page.is_file(), "the web page is not in the wheel")
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            [COMMAND, "serve", "--port", "0", "--data", folder],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            url = ""
            for line in server.stdout or ():
                if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                    url = found.group()
                    break
            check(url != "", "millstream serve printed no URL")
            body = json.dumps({"metrics": [{"name": "room_celsius", "value": 21.5}]}).encode()
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(f"{url}/metrics", data=body, headers=headers)
            with urllib.request.urlopen(request) as response:
                check(response.status < 300, "POST /metrics")
            parameters = urllib.parse.urlencode({"query": "room_celsius"})
            with urllib.request.urlopen(f"{url}/api/v1/query?{parameters}") as response:
                check('"21.5"' in response.read().decode(), "the sample did not come back")
            with urllib.request.urlopen(f"{url}/") as response:
                check("<script" in response.read().decode(), "GET / is not the page")
        finally:
            server.terminate()
            server.communicate(timeout=60)
        check(server.returncode == 0, f"millstream serve ended with {server.returncode}")


if __name__ == "__main__":
    {"base": check_base, "extras": check_extras}[sys.argv[1]]()
    print(f"wheel: {sys.argv[1]} ok")
