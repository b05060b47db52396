"""``millstream certs``: what it makes, who can read it, and what it leaves alone."""

from __future__ import annotations

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from typer.testing import CliRunner

from millstream.cli import app
from millstream.errors import AlreadyExistsError, FailedPreconditionError, MillstreamError

NAMES = ("ca", "server", "gateway", "node")


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["certs", *arguments])
    if isinstance(result.exception, MillstreamError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def load(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def names_of(certificate: x509.Certificate) -> set[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(one.value) for one in found}


def usages_of(certificate: x509.Certificate) -> set[x509.ObjectIdentifier]:
    return set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)


def test_one_command_makes_everything_that_two_sides_need(tmp_path: Path) -> None:
    out = tmp_path / "certs"
    said = run("--out", str(out), "--host", "metrics.example.org", "--days", "30")
    files = {out / f"{name}{suffix}" for name in NAMES for suffix in (".pem", "-key.pem")}
    assert set(map(Path, said.split())) == files == set(out.iterdir())
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in files)
    assert stat.S_IMODE(out.stat().st_mode) == 0o700
    authority = load(out / "ca.pem")
    for name in NAMES:
        certificate = load(out / f"{name}.pem")
        certificate.verify_directly_issued_by(authority)
        key = serialization.load_pem_private_key((out / f"{name}-key.pem").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        assert key.curve.name == "secp256r1"
        assert key.public_key() == certificate.public_key()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_cert_chain(out / f"{name}.pem", out / f"{name}-key.pem")
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert basic.critical
        assert basic.value.ca == (name == "ca")
    server, gateway, node = (load(out / f"{name}.pem") for name in NAMES[1:])
    hosts = {"localhost", "127.0.0.1", "::1", "metrics.example.org"}
    assert names_of(server) == hosts
    assert names_of(node) == hosts | {"node", "spiffe://millstream/node"}
    assert names_of(gateway) == {"gateway", "spiffe://millstream/gateway"}
    assert usages_of(server) == {ExtendedKeyUsageOID.SERVER_AUTH}
    assert usages_of(gateway) == {ExtendedKeyUsageOID.CLIENT_AUTH}
    assert usages_of(node) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    left = server.not_valid_after_utc - datetime.now(UTC)
    assert timedelta(days=29) < left <= timedelta(days=30)


def test_what_is_there_stays_unless_it_is_forced(tmp_path: Path) -> None:
    run("--out", str(tmp_path))
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(AlreadyExistsError, match=r"ca-key\.pem.*--force"):
        run("--out", str(tmp_path))
    (tmp_path / "node.pem").unlink()
    with pytest.raises(AlreadyExistsError):
        run("issue", "server", "--san", "a", "--out", str(tmp_path))
    assert not (tmp_path / "node.pem").exists()
    assert all(path.read_bytes() == content for path, content in before.items() if path.exists())
    run("--out", str(tmp_path), "--force")
    assert all(path.read_bytes() != content for path, content in before.items())


def test_a_ca_that_is_there_issues_more(tmp_path: Path) -> None:
    run("--out", str(tmp_path))
    uri = "spiffe://example.org/node/2"
    run("issue", "node-2", "--san", "10.0.0.2", "--san", uri, "--out", str(tmp_path / "two"),
        "--ca", str(tmp_path), "--usage", "server")  # fmt: skip
    made = load(tmp_path / "two/node-2.pem")
    made.verify_directly_issued_by(load(tmp_path / "ca.pem"))
    assert names_of(made) == {"10.0.0.2", uri}
    assert usages_of(made) == {ExtendedKeyUsageOID.SERVER_AUTH}


@pytest.mark.parametrize(
    "arguments",
    [
        ("issue", "a/../b", "--san", "x"),
        ("issue", "ca", "--san", "x"),
        ("issue", "n", "--san", "two words"),
        ("issue", "n", "--san", ""),
        ("issue", "n", "--san", "x" * 64),
        ("issue", "n", "--san", "x", "--days", "0"),
        ("issue", "n", "--san", "x", "--usage", "any"),
        ("issue", "n"),
        ("--host", "über"),
        ("--days", "36501"),
    ],
)
def test_what_no_certificate_can_have_is_wrong_usage(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    run("--out", str(tmp_path / "ca"))
    place = ["--out", str(tmp_path / "new")]
    if arguments[0] == "issue":
        place += ["--ca", str(tmp_path / "ca")]
    result = CliRunner().invoke(app, ["certs", *arguments, *place])
    assert result.exit_code == 2, result.output
    assert not (tmp_path / "new").exists()


def test_a_ca_that_is_missing_or_spoilt_is_named(tmp_path: Path) -> None:
    command = ("issue", "n", "--san", "x", "--out", str(tmp_path))
    with pytest.raises(FailedPreconditionError, match="no CA in"):
        run(*command)
    run("--out", str(tmp_path))
    (tmp_path / "ca-key.pem").write_bytes((tmp_path / "node-key.pem").read_bytes())
    with pytest.raises(FailedPreconditionError, match="do not fit"):
        run(*command)
    (tmp_path / "ca-key.pem").write_bytes(b"garbage")
    with pytest.raises(FailedPreconditionError, match="cannot be used"):
        run(*command)
