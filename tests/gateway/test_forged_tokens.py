"""Tokens that look good and are not. Each is refused, whether it claims to be ours or an issuer's."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization

from tests.gateway.access_support import ROOT_KEY, Site, bearer, site_in
from tests.gateway.token_support import (
    AUDIENCE,
    Issuer,
    Json,
    Signer,
    b64,
    claims_of,
    issuer_server,
    raw_token,
)

FOREIGN = Signer("RS256", "k1")
STRANGER = Signer("RS256", "k1")
CURVED = Signer("ES256", "e1")


@dataclass
class Lab:
    """A server, an issuer that it trusts, and a token of its own."""

    site: Site
    issuer: Issuer
    own: str
    refresh: str

    @property
    def header(self) -> Json:
        return {"alg": "RS256", "kid": "k1", "typ": "JWT"}

    def claims(self, **more: Any) -> Json:
        return claims_of(self.issuer.url, **more)

    def token(self, header: Json | str | None = None, **more: Any) -> str:
        return FOREIGN.token(self.claims(**more), header)

    def own_parts(self) -> tuple[Json, Json]:
        header, claims, _ = self.own.split(".")
        pad = "=="
        return (
            json.loads(base64.urlsafe_b64decode(header + pad)),
            json.loads(base64.urlsafe_b64decode(claims + pad)),
        )


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder: Path = tmp_path_factory.mktemp("lab")
    with issuer_server() as issuer:
        issuer.publish(FOREIGN.jwk, CURVED.jwk)
        with site_in(
            folder,
            issuers=[issuer.settings()],
            insecure_loopback=True,
            failed_attempts_per_minute=60_000,
        ) as site:
            made = site.client.post("/v1/admin/tenants", json={"name": "shop"}, headers=ROOT)
            assert made.status_code == 201
            key = site.issue(tenants=["shop"])["key"]
            answer = site.client.post(
                "/v1/auth/token", data={"grant_type": "client_credentials"}, headers=bearer(key)
            ).json()
            lab = Lab(site, issuer, answer["access_token"], answer["refresh_token"])
            assert site.get("/api/v1/labels", bearer(lab.token())) == 200
            assert site.get("/api/v1/labels", bearer(lab.own)) == 200
            yield lab


ROOT = bearer(ROOT_KEY)
Forge = Callable[[Lab], str]
FORGED: dict[str, Forge] = {}


def forged(make: Forge) -> Forge:
    FORGED[make.__name__] = make
    return make


def hs256(secret: bytes) -> Callable[[bytes], bytes]:
    return lambda text: hmac.digest(secret, text, hashlib.sha256)


def public_pem() -> bytes:
    pem: bytes = FOREIGN.private.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return pem


def nothing(text: bytes) -> bytes:
    return b""


for spelling in ("none", "None", "NONE", "nOnE", ""):
    FORGED[f"alg_{spelling or 'empty'}_without_signature"] = lambda lab, alg=spelling: raw_token(  # type: ignore[misc]
        {**lab.header, "alg": alg}, lab.claims(), nothing
    )
    FORGED[f"alg_{spelling or 'empty'}_with_signature"] = lambda lab, alg=spelling: FOREIGN.token(  # type: ignore[misc]
        lab.claims(), {**lab.header, "alg": alg}
    )

for name, value in {
    "crit": ["exp"],
    "crit_b64": ["b64"],
    "jwk": STRANGER.jwk,
    "jku": "https://example.org/jwks",
    "x5u": "https://example.org/cert",
    "x5c": ["MIIB"],
    "b64": False,
    "zip": "DEF",
    "cty": "JWT",
    "enc": "A256GCM",
}.items():
    FORGED[f"header_{name}_signed_by_the_right_key"] = lambda lab, n=name, v=value: FOREIGN.token(  # type: ignore[misc]
        lab.claims(), {**lab.header, n.removesuffix("_b64"): v}
    )

FORGED["header_jwk_signed_by_the_key_in_it"] = lambda lab: STRANGER.token(
    lab.claims(), {**lab.header, "jwk": STRANGER.jwk}
)

now = int(time.time())
for name, change in {
    "another_issuer": {"iss": "https://example.org"},
    "issuer_with_a_slash": {"iss": "SLASH"},
    "issuer_is_a_list": {"iss": ["LIST"]},
    "issuer_is_missing": {"iss": None},
    "our_own_issuer": {"iss": "millstream", "aud": "millstream"},
    "another_audience": {"aud": "somebody"},
    "our_own_audience": {"aud": "millstream"},
    "audience_is_missing": {"aud": None},
    "audience_is_an_empty_list": {"aud": []},
    "audience_is_a_number": {"aud": 5},
    "audience_is_an_object": {"aud": {AUDIENCE: True}},
    "audience_of_mixed_types": {"aud": [AUDIENCE, 5]},
    "audience_in_other_letters": {"aud": AUDIENCE.upper()},
    "expired": {"exp": now - 3600},
    "expiry_is_missing": {"exp": None},
    "expiry_is_text": {"exp": str(now + 300)},
    "expiry_is_true": {"exp": True},
    "expiry_is_huge": {"exp": 10**30},
    "expiry_is_negative": {"exp": -1},
    "lives_for_years": {"exp": now + 3 * 365 * 86400},
    "not_before_tomorrow": {"nbf": now + 86400},
    "not_before_is_text": {"nbf": "0"},
    "made_tomorrow": {"iat": now + 86400},
    "time_of_making_is_missing": {"iat": None},
    "subject_is_missing": {"sub": None},
    "subject_is_empty": {"sub": ""},
    "subject_is_a_list": {"sub": ["ann"]},
    "subject_has_a_line_end": {"sub": "ann\nroot"},
    "subject_is_half_a_letter": {"sub": "\ud800"},
    "token_id_is_a_number": {"jti": 7},
    "tenant_is_a_number": {"tenant": 0},
    "tenant_is_an_object": {"tenant": {"shop": 1}},
    "tenant_is_null": {"tenant": "NULL"},
    "tenant_is_an_empty_list": {"tenant": []},
    "tenant_is_every_tenant": {"tenant": "*"},
    "tenant_climbs": {"tenant": "../shop"},
    "tenants_with_a_number": {"tenant": ["shop", 1]},
    "role_is_a_number": {"role": 1},
    "role_is_an_object": {"role": {"admin": True}},
}.items():

    def changed(lab: Lab, change: Json = change) -> str:
        claims = lab.claims()
        for claim, new in change.items():
            if new == "SLASH":
                claims[claim] = lab.issuer.url + "/"
            elif new == ["LIST"]:
                claims[claim] = [lab.issuer.url]
            elif new == "NULL":
                claims[claim] = None
            elif new is None:
                del claims[claim]
            else:
                claims[claim] = new
        return FOREIGN.token(claims)

    FORGED[f"claim_{name}"] = changed

for kind in ("rt+jwt", "logout+jwt", "dpop+jwt", "secevent+jwt", "JWE", ""):
    FORGED[f"type_{kind or 'empty'}"] = lambda lab, kind=kind: FOREIGN.token(  # type: ignore[misc]
        lab.claims(), {**lab.header, "typ": kind}
    )

for name, kid in {
    "climbs": "../../../../dev/null",
    "asks_a_database": "x' UNION SELECT 'k1' --",
    "runs_a_command": "k1|id",
    "of_another_key": "k2",
    "with_a_null": "k1\0",
    "with_a_space": "k1 ",
    "long": "k" * 201,
    "a_number": 1,
    "a_list": ["k1"],
    "null": None,
    "empty": "",
}.items():
    FORGED[f"kid_{name}"] = lambda lab, kid=kid: FOREIGN.token(  # type: ignore[misc]
        lab.claims(), {**lab.header, "kid": kid}
    )


@forged
def kid_missing_where_there_are_two_keys_of_an_issuer(lab: Lab) -> str:
    return CURVED.token(lab.claims(), {"alg": "ES256"})


@forged
def hs256_with_the_public_key_as_pem(lab: Lab) -> str:
    return raw_token({**lab.header, "alg": "HS256"}, lab.claims(), hs256(public_pem()))


@forged
def hs256_with_the_modulus(lab: Lab) -> str:
    modulus = base64.urlsafe_b64decode(FOREIGN.jwk["n"] + "==")
    return raw_token({**lab.header, "alg": "HS256"}, lab.claims(), hs256(modulus))


@forged
def hs256_with_nothing(lab: Lab) -> str:
    return raw_token({**lab.header, "alg": "HS256"}, lab.claims(), hs256(b""))


@forged
def ps256_with_the_right_key(lab: Lab) -> str:
    sign = jwt.get_algorithm_by_name("PS256").sign
    return raw_token(
        {**lab.header, "alg": "PS256"}, lab.claims(), lambda text: sign(text, FOREIGN.private)
    )


@forged
def rs512_with_a_key_for_rs256(lab: Lab) -> str:
    sign = jwt.get_algorithm_by_name("RS512").sign
    return raw_token(
        {**lab.header, "alg": "RS512"}, lab.claims(), lambda text: sign(text, FOREIGN.private)
    )


@forged
def key_of_another_type_that_the_issuer_publishes(lab: Lab) -> str:
    return CURVED.token(lab.claims())


@forged
def es256_signature_of_zeros(lab: Lab) -> str:
    return raw_token({**lab.header, "alg": "ES256", "kid": "e1"}, lab.claims(), lambda t: bytes(64))


@forged
def signed_by_a_stranger_with_the_same_kid(lab: Lab) -> str:
    return STRANGER.token(lab.claims())


@forged
def algorithm_is_missing(lab: Lab) -> str:
    return FOREIGN.token(lab.claims(), {"kid": "k1"})


@forged
def algorithm_is_a_list(lab: Lab) -> str:
    return FOREIGN.token(lab.claims(), {**lab.header, "alg": ["RS256"]})


@forged
def claims_changed_after_signing(lab: Lab) -> str:
    header, _, signature = lab.token().split(".")
    claims = b64(json.dumps(lab.claims(role="admin")).encode())
    return f"{header}.{claims}.{signature}"


@forged
def without_a_signature(lab: Lab) -> str:
    return lab.token().rpartition(".")[0] + "."


@forged
def with_half_a_signature(lab: Lab) -> str:
    return lab.token()[:-170]


@forged
def with_a_padded_signature(lab: Lab) -> str:
    return lab.token() + "=="


@forged
def with_the_signature_in_other_base64_letters(lab: Lab) -> str:
    token = lab.token()
    while not set("-_") & set(token.rpartition(".")[2]):
        token = lab.token(jti=str(time.time_ns()))
    head, _, signature = token.rpartition(".")
    return f"{head}.{signature.replace('-', '+').replace('_', '/')}"


@forged
def with_unused_bits_set_in_the_signature(lab: Lab) -> str:
    token = lab.token()
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + letters[letters.index(token[-1]) ^ 1]


@forged
def with_a_line_end_in_the_signature(lab: Lab) -> str:
    token = lab.token()
    return token[:-4] + "\t" + token[-4:]


@forged
def with_the_first_bit_of_the_signature_turned(lab: Lab) -> str:
    head, _, signature = lab.token().rpartition(".")
    return f"{head}.{('A' if signature[0] != 'A' else 'B') + signature[1:]}"


@forged
def with_a_fourth_part(lab: Lab) -> str:
    return lab.token() + ".AAAA"


@forged
def in_the_json_form(lab: Lab) -> str:
    header, claims, signature = lab.token().split(".")
    return json.dumps({"protected": header, "payload": claims, "signature": signature})


@forged
def huge(lab: Lab) -> str:
    return lab.token(more="x" * 9000)


@forged
def nested_deeply(lab: Lab) -> str:
    deep = '{"more":' + "[" * 2500 + "]" * 2500 + "}"
    return FOREIGN.token(json.dumps(lab.claims())[:-1] + "," + deep[1:])


@forged
def a_token_within_a_token(lab: Lab) -> str:
    return FOREIGN.token(json.dumps(lab.token()), {**lab.header})


@forged
def claims_are_a_list(lab: Lab) -> str:
    return FOREIGN.token(json.dumps([lab.claims()]))


@forged
def claims_are_not_json(lab: Lab) -> str:
    return FOREIGN.token("iss=me")


@forged
def a_claim_comes_twice(lab: Lab) -> str:
    return FOREIGN.token(json.dumps(lab.claims())[:-1] + ', "role": "admin"}')


@forged
def the_algorithm_comes_twice(lab: Lab) -> str:
    return FOREIGN.token(lab.claims(), '{"alg": "none", "kid": "k1", "alg": "RS256"}')


@forged
def expiry_is_not_a_number(lab: Lab) -> str:
    text = json.dumps(lab.claims(exp=0)).replace('"exp": 0', '"exp": NaN')
    return FOREIGN.token(text)


@forged
def expiry_never_comes(lab: Lab) -> str:
    text = json.dumps(lab.claims(exp=0)).replace('"exp": 0', '"exp": 1e999')
    return FOREIGN.token(text)


@forged
def refresh_token_as_access_token(lab: Lab) -> str:
    return lab.refresh


@forged
def own_token_with_more_rights(lab: Lab) -> str:
    _, claims = lab.own_parts()
    body = b64(json.dumps({**claims, "role": "admin", "tenants": ["*"]}).encode())
    return f"{lab.own.split('.')[0]}.{body}.{lab.own.split('.')[2]}"


@forged
def own_token_signed_by_a_foreign_issuer(lab: Lab) -> str:
    header, claims = lab.own_parts()
    return FOREIGN.token(claims, {**header, "alg": "RS256", "kid": "k1"})


@forged
def own_token_with_our_kid_and_a_strangers_key(lab: Lab) -> str:
    header, claims = lab.own_parts()
    return raw_token(header, claims, CURVED.sign)


@forged
def own_token_with_a_signature_of_zeros(lab: Lab) -> str:
    header, claims = lab.own_parts()
    return raw_token(header, claims, lambda text: bytes(64))


@forged
def own_token_of_no_algorithm(lab: Lab) -> str:
    header, claims = lab.own_parts()
    return raw_token({**header, "alg": "none"}, claims, nothing)


@forged
def own_token_hs256_with_the_published_key(lab: Lab) -> str:
    header, claims = lab.own_parts()
    published = lab.site.client.get("/.well-known/jwks.json").json()["keys"][0]
    secret = base64.urlsafe_b64decode(published["x"] + "==")
    return raw_token({**header, "alg": "HS256"}, claims, hs256(secret))


@pytest.mark.parametrize("name", sorted(FORGED))
def test_a_forged_token_is_refused(lab: Lab, name: str) -> None:
    token = FORGED[name](lab)
    asked = len(lab.issuer.asked)
    for path in ("/api/v1/labels", "/v1/auth/me"):
        answer = lab.site.client.get(path, headers={b"Authorization": b"Bearer " + token.encode()})
        assert answer.status_code == 401, answer.text
        assert token not in answer.text
        assert "WWW-Authenticate" in answer.headers
    written = lab.site.client.post(
        "/api/v1/write", headers={b"Authorization": b"Bearer " + token.encode()}
    )
    assert written.status_code == 401
    # Nothing that a token says makes the server ask anybody: its keys were fetched a moment ago.
    assert len(lab.issuer.asked) == asked


def test_there_are_enough_forged_tokens_and_they_differ(lab: Lab) -> None:
    assert len(FORGED) >= 80
    assert len({forge(lab) for forge in FORGED.values()}) == len(FORGED)


@pytest.mark.parametrize(
    "claims",
    [
        {},
        {"aud": ["other", AUDIENCE]},
        {"tenant": ["shop"]},
        {"nbf": now - 5},
        {"exp": now + 600.5},
        {"jti": "a"},
    ],
    ids=lambda claims: " ".join(claims),
)
def test_what_the_forged_tokens_are_made_of_is_good(lab: Lab, claims: Json) -> None:
    assert lab.site.get("/api/v1/labels", bearer(lab.token(**claims))) == 200


@pytest.mark.parametrize("kind", ["JWT", "jwt", "at+jwt", "application/at+JWT"])
def test_the_kinds_of_token_that_will_do(lab: Lab, kind: str) -> None:
    header = {**lab.header, "typ": kind}
    assert lab.site.get("/api/v1/labels", bearer(lab.token(header, jti=kind))) == 200
