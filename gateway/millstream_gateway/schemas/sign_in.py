"""Bodies of the routes that sign people in and out."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from millstream_gateway.schemas.access import Role


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TokenAnswer(_Body):
    """What somebody gets who signs in (RFC 6749, 5.1)."""

    access_token: str = Field(description="Send it as `Authorization: Bearer …`.")
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105
    expires_in: int = Field(description="Seconds that the access token is good.")
    refresh_token: str | None = Field(
        description="Good once, for new tokens. Absent when it is in a cookie."
    )
    scope: str = Field(description="What may be done: some of read, write, monitor, admin.")


class Provider(_Body):
    """A way to sign in."""

    name: str
    login: str = Field(description="Where to send the browser.")


class ProviderList(_Body):
    """Ways to sign in without a key."""

    providers: list[Provider]
    passwords: bool = Field(description="Whether there are users with a name and a password.")


class SessionDescription(_Body):
    """A sign-in. Times are Unix milliseconds."""

    id: str
    kind: str = Field(description="key, admin_key or user")
    name: str
    issuer: str = Field(description="Who signed this user in; empty for keys.")
    role: Role
    tenants: list[str]
    client: str = Field(description="The address that signed in.")
    created_ms: int
    renewed_ms: int
    expires_ms: int


class SessionList(_Body):
    """Sign-ins in the caller's tenants."""

    sessions: list[SessionDescription]


class Revocation(_Body):
    """Which tokens of a foreign issuer are to be refused; a subject, a token, or both."""

    issuer: str = Field(min_length=1, max_length=2048)
    subject: str = Field(default="", max_length=1000, description="All that it has by now.")
    token_id: str = Field(default="", max_length=1000, description="The claim `jti` of one token.")


class Revoked(_Body):
    """What was ended."""

    sessions_ended: int


class SigningTurn(_Body):
    """How the next signing key comes."""

    forget: bool = Field(
        default=False, description="Forget the keys before it, and so end every token by them."
    )


class SigningKeyAnswer(_Body):
    """The key that signs from now on."""

    kid: str
