"""A certificate authority for development and tests, and the certificates that it gives.

Needs the package `cryptography`, which the extra ``gateway`` brings.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from millstream.errors import AlreadyExistsError, FailedPreconditionError, InvalidArgumentError

Usage = Literal["server", "client", "both"]
DAYS_MAX: Final = 36_500
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}\Z", re.ASCII)
_DNS: Final = re.compile(r"(\*\.)?[A-Za-z0-9_-]{1,63}(\.[A-Za-z0-9_-]{1,63})*\Z", re.ASCII)
_URI: Final = re.compile(r"[a-z][a-z0-9+.-]*://[!-~]{1,2000}\Z", re.ASCII)
_USAGES: Final = {
    "server": (ExtendedKeyUsageOID.SERVER_AUTH,),
    "client": (ExtendedKeyUsageOID.CLIENT_AUTH,),
    "both": (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
}
# Clocks differ; a certificate is good a little before it was made.
_BACKDATED: Final = timedelta(hours=1)


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    def files(self, name: str) -> dict[str, bytes]:
        """Both as PEM, by file name. The key comes first."""
        key = self.key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        certificate = self.certificate.public_bytes(serialization.Encoding.PEM)
        return {f"{name}-key.pem": key, f"{name}.pem": certificate}


def make_authority(name: str, days: int) -> Pair:
    """A CA that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _subject(name)
    builder = (
        _builder(subject, subject, key, days)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
    )
    return Pair(builder.sign(key, hashes.SHA256()), key)


def issue(authority: Pair, name: str, names: Iterable[str], usage: Usage, days: int) -> Pair:
    """A certificate for ``names``: host names, IP addresses and URIs such as SPIFFE's.

    Raises `InvalidArgumentError` for what is none of these, or for none at all.
    """
    alternatives = [_alternative(one) for one in dict.fromkeys(names)]
    if not alternatives:
        raise InvalidArgumentError("a certificate needs at least one name")
    key = ec.generate_private_key(ec.SECP256R1())
    signer = authority.certificate
    builder = (
        _builder(_subject(name), signer.subject, key, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(_USAGES[usage]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
    )
    return Pair(builder.sign(authority.key, hashes.SHA256()), key)


def load_authority(folder: Path, name: str = "ca") -> Pair:
    """The CA that `write_files` left in a folder."""
    try:
        certificate = x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes())
        key = serialization.load_pem_private_key((folder / f"{name}-key.pem").read_bytes(), None)
    except OSError as error:
        raise FailedPreconditionError(
            f"no CA in {folder}: cannot read {error.filename}: {error.strerror}"
        ) from None
    except (ValueError, TypeError) as error:
        raise FailedPreconditionError(f"the CA in {folder} cannot be used: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise FailedPreconditionError(f"the key of the CA in {folder} is not an elliptic curve's")
    if key.public_key() != certificate.public_key():
        raise FailedPreconditionError(f"{name}.pem and {name}-key.pem in {folder} do not fit")
    return Pair(certificate, key)


def write_files(folder: Path, files: Mapping[str, bytes], *, force: bool) -> None:
    """Write all, readable by their owner only, each in one step; or nothing.

    Raises `AlreadyExistsError` when one is there and ``force`` is off.
    """
    there = [name for name in files if (folder / name).exists()]
    if there and not force:
        raise AlreadyExistsError(
            f"{folder} has {', '.join(there)} already; --force puts new ones in their place"
        )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for name, content in files.items():
            _write(folder / name, content)
    except OSError as error:
        raise FailedPreconditionError(f"cannot write to {folder}: {error.strerror}") from None


def _write(path: Path, content: bytes) -> None:
    beside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    number = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(number, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    if not 1 <= days <= DAYS_MAX:
        raise InvalidArgumentError(f"a certificate is good for 1 to {DAYS_MAX} days")
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _subject(name: str) -> x509.Name:
    if not _NAME.match(name):
        raise InvalidArgumentError(f"{name!r} is no name: letters, digits and _.- make one")
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Millstream development"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name.strip("[]")))
    except ValueError:
        pass
    if _URI.match(name):
        return x509.UniformResourceIdentifier(name)
    if _DNS.match(name) and len(name) <= 253:
        return x509.DNSName(name)
    raise InvalidArgumentError(f"{name!r} is no host name, IP address or URI")
