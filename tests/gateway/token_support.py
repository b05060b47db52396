"""Tokens made by hand, good and forged, and a foreign issuer that publishes keys over a socket."""

from __future__ import annotations

import base64
import http.server
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

AUDIENCE = "millstream-test"
Json = dict[str, Any]


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def raw_token(header: Json | str, claims: Json | str, sign: Callable[[bytes], bytes]) -> str:
    """A token of exactly these texts."""
    parts = [part if isinstance(part, str) else json.dumps(part) for part in (header, claims)]
    signed = ".".join(b64(part.encode()) for part in parts)
    return f"{signed}.{b64(sign(signed.encode()))}"


class Signer:
    """A key pair and what it signs."""

    def __init__(self, algorithm: str = "RS256", kid: str = "k1") -> None:
        self.algorithm = algorithm
        self.kid = kid
        self.private: Any
        if algorithm.startswith("RS"):
            self.private = rsa.generate_private_key(65537, 2048)
            self.jwk: Json = RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        elif algorithm == "EdDSA":
            self.private = ed25519.Ed25519PrivateKey.generate()
            self.jwk = OKPAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        else:
            self.private = ec.generate_private_key(ec.SECP256R1())
            self.jwk = ECAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        self.jwk = {
            **{name: value for name, value in self.jwk.items() if name != "key_ops"},
            "kid": kid,
            "use": "sig",
            "alg": algorithm,
        }

    def sign(self, text: bytes) -> bytes:
        algorithm = jwt.get_algorithm_by_name(self.algorithm)
        return algorithm.sign(text, self.private)

    def token(self, claims: Json | str, header: Json | str | None = None) -> str:
        if header is None:
            header = {"alg": self.algorithm, "kid": self.kid, "typ": "JWT"}
        return raw_token(header, claims, self.sign)


def claims_of(issuer: str, **more: Any) -> Json:
    now = int(time.time())
    found = {
        "iss": issuer,
        "aud": AUDIENCE,
        "sub": "ann",
        "iat": now,
        "exp": now + 300,
        "role": "user",
        "tenant": "shop",
        **more,
    }
    return {name: value for name, value in found.items() if value is not None}


class Issuer:
    """Answers what `pages` has for a path, and writes down what was asked."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[str] = []
        self.pages: dict[str, Any] = {}

    def publish(self, *keys: Mapping[str, Any]) -> None:
        self.pages["/jwks"] = {"keys": list(keys)}
        self.pages["/.well-known/openid-configuration"] = {
            "issuer": self.url,
            "jwks_uri": f"{self.url}/jwks",
        }

    def settings(self, **more: Any) -> Json:
        return {
            "issuer": self.url,
            "audience": AUDIENCE,
            "role_claim": "role",
            "tenant_claim": "tenant",
            **more,
        }


@contextmanager
def issuer_server() -> Iterator[Issuer]:
    """A page is a JSON value, bytes, or (status, headers, bytes)."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.asked.append(self.path)
            page = issuer.pages.get(self.path, (404, {}, b""))
            status, headers, body = page if isinstance(page, tuple) else (200, {}, page)
            if not isinstance(body, bytes):
                body = json.dumps(body).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer = Issuer(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
