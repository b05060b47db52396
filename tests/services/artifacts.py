"""Pinned programs for the tests, built once from the Go module proxy into a cache outside the tree.

Run ``python -m tests.services.artifacts`` to build everything ahead of time; the starters build what is missing.

A program is cached under a name that carries its version and the compiler's, is built beside it, and is renamed into
place, so a reader never sees half of one. A lock file keeps two runs from building the same program twice.

Debian 12's own Go is older than Prometheus needs. The Go module proxy serves the Go toolchain as an ordinary module,
so any Go can fetch the pinned compiler, and `go mod download` checks it against the checksum database.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

GO_VERSION = "1.26.8"
BUILD_DEADLINE_SECONDS = 1800


class ArtifactError(RuntimeError):
    """A pinned program could not be fetched or built; the text says which and why."""


@dataclass(frozen=True)
class GoProgram:
    """A main package of a Go module, at a version."""

    name: str
    module: str
    version: str
    package: str
    tags: str = ""
    # Alone: by `go install`, which reads what the tags leave in, and no more. For modules that replace none of their
    # requirements.
    is_alone: bool = False


PROMETHEUS = GoProgram(
    name="prometheus",
    module="github.com/prometheus/prometheus",
    version="v0.315.0",
    package="github.com/prometheus/prometheus/cmd/prometheus",
    tags="remove_all_sd",
)
NODE_EXPORTER = GoProgram(
    name="node_exporter",
    module="github.com/prometheus/node_exporter",
    version="v1.12.1",
    package="github.com/prometheus/node_exporter",
)
ALL_PROGRAMS = (PROMETHEUS, NODE_EXPORTER)
# Not among them: only the nightly tier needs it, and its modules take 2.5 GB.
TELEGRAF = GoProgram(
    name="telegraf",
    module="github.com/influxdata/telegraf",
    version="v1.37.2",
    package="github.com/influxdata/telegraf/cmd/telegraf",
    tags="custom,inputs.file,parsers.influx,outputs.http,outputs.influxdb,outputs.influxdb_v2,"
    "serializers.prometheusremotewrite",
    is_alone=True,
)


def cache_root() -> Path:
    """The folder that holds every fetched or built program."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "millstream"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _run(command: list[str], *, cwd: Path, env: dict[str, str]) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=env,
            capture_output=True,
            text=True,
            timeout=BUILD_DEADLINE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ArtifactError(
            f"{' '.join(command)}: not done after {BUILD_DEADLINE_SECONDS} s"
        ) from error
    if done.returncode != 0:
        raise ArtifactError(
            f"{' '.join(command)}: exit {done.returncode}\n{done.stdout[-2000:]}{done.stderr[-6000:]}"
        )
    return done.stdout


def _version_tuple(text: str) -> tuple[int, ...]:
    match = re.match(r"(?:go)?(\d+)\.(\d+)(?:\.(\d+))?", text.strip())
    return tuple(int(part or 0) for part in match.groups()) if match else (0,)


def _go_candidates() -> list[Path]:
    found = [shutil.which("go"), "/usr/local/go/bin/go", "/usr/bin/go"]
    return [Path(path) for path in dict.fromkeys(found) if path and Path(path).is_file()]


def _build_env(**extra: str) -> dict[str, str]:
    # GOFLAGS of the caller (-mod=vendor, say) would change what is built; GOTOOLCHAIN=local keeps a newer Go from
    # fetching yet another compiler behind the pin.
    return {
        **os.environ,
        "GOFLAGS": "-buildvcs=false",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        **extra,
    }


def ensure_go() -> Path:
    """Returns a `go` command that is at least GO_VERSION, fetching that toolchain when the system's is older."""
    candidates = _go_candidates()
    for candidate in candidates:
        version = _run([str(candidate), "env", "GOVERSION"], cwd=Path("/"), env=_build_env())
        if _version_tuple(version) >= _version_tuple(GO_VERSION):
            return candidate
    home = cache_root() / "go" / GO_VERSION
    go = home / "bin" / "go"
    if go.is_file():
        return go
    if not candidates:
        raise ArtifactError(
            "no Go found: apt-get install golang-go (any version; it fetches the one that is needed)"
        )
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine())
    if arch is None:
        raise ArtifactError(f"no pinned Go toolchain for {platform.machine()}")
    with _locked(home.parent / f"{GO_VERSION}.lock"):
        if go.is_file():
            return go
        toolchain = f"golang.org/toolchain@v0.0.1-go{GO_VERSION}.linux-{arch}"
        with tempfile.TemporaryDirectory(dir=home.parent) as scratch:
            modules = Path(scratch) / "modules"
            env = _build_env(GOMODCACHE=str(modules), GOFLAGS="-modcacherw")
            answer = json.loads(
                _run(
                    [str(candidates[0]), "mod", "download", "-json", toolchain],
                    cwd=Path(scratch),
                    env=env,
                )
            )
            unpacked = Path(answer["Dir"])
            # A module's files are never executable; these have to be.
            tools = unpacked / "pkg" / "tool"
            for path in [
                *(unpacked / "bin").iterdir(),
                *(item for item in tools.rglob("*") if item.is_file()),
            ]:
                path.chmod(0o755)
            unpacked.rename(home)
    return go


def ensure(program: GoProgram) -> Path:
    """Returns the program's path, building it first when this version is not in the cache."""
    target = (
        cache_root()
        / "bin"
        / f"{program.name}-{program.version}-go{GO_VERSION}-{platform.machine()}"
    )
    if target.is_file():
        return target
    with _locked(target.with_name(target.name + ".lock")):
        if target.is_file():
            return target
        go = ensure_go()
        print(
            f"building {program.name} {program.version} with {go} (once)",
            file=sys.stderr,
            flush=True,
        )
        with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
            where = Path(scratch)
            env = _build_env(CGO_ENABLED="0", GOBIN=str(where))
            options = ["-p", "2", "-trimpath", "-ldflags", "-s -w"]
            if program.tags:
                options += ["-tags", program.tags]
            if program.is_alone:
                package = f"{program.package}@{program.version}"
                _run([str(go), "install", *options, package], cwd=where, env=env)
                (where / program.package.rsplit("/", 1)[1]).rename(target)
                return target
            # `go install PACKAGE@VERSION` refuses modules with replace directives; requiring the package from an
            # empty module does not, and the requirements of that one module decide every other version.
            _run([str(go), "mod", "init", "millstream.invalid/tools"], cwd=where, env=env)
            _run(
                [str(go), "get", "-tool", f"{program.package}@{program.version}"],
                cwd=where,
                env=env,
            )
            built = where / "out"
            _run(
                [str(go), "build", *options, "-o", str(built), program.package], cwd=where, env=env
            )
            built.rename(target)
    return target


def main() -> int:
    """Builds every pinned program and prints where it is."""
    for program in ALL_PROGRAMS:
        print(f"{program.name} {program.version}: {ensure(program)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
