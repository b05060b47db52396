"""API keys as they are stored. A stored key cannot be turned back into the key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from millstream.errors import DataLossError
from millstream_gateway.schemas.access import Action, Principal, Role


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """What somebody wants a new key to be. Empty verbs are those of the role."""

    name: str
    role: Role
    tenants: frozenset[str]
    verbs: frozenset[Action] = frozenset()
    topics: tuple[str, ...] = ("*",)
    expires_in_ms: int | None = None


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One key. Times are Unix milliseconds; digests are SHA-256 of the secret, in hexadecimal.

    After a rotation the digest before it stays good until ``previous_until_ms``.
    """

    id: str
    name: str
    role: Role
    verbs: frozenset[Action]
    tenants: frozenset[str]
    topics: tuple[str, ...]
    digest: str
    created_ms: int
    created_by: str
    expires_ms: int | None = None
    revoked_ms: int | None = None
    rotated_ms: int | None = None
    previous_digest: str = ""
    previous_until_ms: int = 0

    @property
    def principal(self) -> Principal:
        return Principal(
            kind="key",
            id=self.id,
            name=self.name,
            role=self.role,
            verbs=self.verbs,
            tenants=self.tenants,
            topics=self.topics,
            expires_ms=self.expires_ms,
        )

    def good_until_ms(self, digest: str, now_ms: int) -> int | None:
        """Until when the secret of this digest is good, while the key is; None is for ever.

        It is over when that is not in the future.
        """
        if digest == self.digest:
            return self.expires_ms
        if not digest or digest != self.previous_digest:
            return now_ms
        return min(self.previous_until_ms, self.expires_ms or self.previous_until_ms)

    def state(self, now_ms: int) -> str:
        """Active, expired or revoked."""
        if self.revoked_ms is not None:
            return "revoked"
        if self.expires_ms is not None and now_ms >= self.expires_ms:
            return "expired"
        return "active"

    def to_value(self) -> dict[str, Any]:
        """As the MetaStore keeps it."""
        return {
            "name": self.name,
            "role": self.role.value,
            "verbs": sorted(verb.value for verb in self.verbs),
            "tenants": sorted(self.tenants),
            "topics": list(self.topics),
            "digest": self.digest,
            "created_ms": self.created_ms,
            "created_by": self.created_by,
            "expires_ms": self.expires_ms,
            "revoked_ms": self.revoked_ms,
            "rotated_ms": self.rotated_ms,
            "previous_digest": self.previous_digest,
            "previous_until_ms": self.previous_until_ms,
        }

    @classmethod
    def from_value(cls, key_id: str, value: Mapping[str, Any]) -> KeyRecord:
        """The way back; `DataLossError` when the record makes no sense."""
        try:
            return cls(
                **{
                    **value,
                    "id": key_id,
                    "role": Role(value["role"]),
                    "verbs": frozenset(map(Action, value["verbs"])),
                    "tenants": frozenset(value["tenants"]),
                    "topics": tuple(value["topics"]),
                }
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataLossError(f"the record of key {key_id} is damaged: {error}") from None
