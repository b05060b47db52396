"""Local users as they are stored. A password cannot be had back from what is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from millstream.errors import DataLossError
from millstream_gateway.schemas.access import Action, Principal, Role

# In place of the issuer of those whom somebody else vouches for.
LOCAL: Final = "local"


@dataclass(frozen=True, slots=True)
class UserRequest:
    """What somebody wants a new user to be. Empty verbs are those of the role."""

    name: str
    password: str
    role: Role
    tenants: frozenset[str]
    verbs: frozenset[Action] = frozenset()


@dataclass(frozen=True, slots=True)
class UserRecord:
    """One user. Times are Unix milliseconds; the digest is Argon2id with its parameters and salt.

    ``changed_ms`` is when the password was set: sessions from before it are over.
    """

    name: str
    role: Role
    verbs: frozenset[Action]
    tenants: frozenset[str]
    digest: str
    created_ms: int
    created_by: str
    changed_ms: int
    disabled: bool = False

    @property
    def subject(self) -> str:
        return f"{LOCAL}#{self.name}"

    @property
    def principal(self) -> Principal:
        return Principal(
            kind="user",
            id=self.subject,
            name=self.name,
            role=self.role,
            verbs=self.verbs,
            tenants=self.tenants,
        )

    def to_value(self) -> dict[str, Any]:
        """As the MetaStore keeps it."""
        return {
            "role": self.role.value,
            "verbs": sorted(verb.value for verb in self.verbs),
            "tenants": sorted(self.tenants),
            "digest": self.digest,
            "created_ms": self.created_ms,
            "created_by": self.created_by,
            "changed_ms": self.changed_ms,
            "disabled": self.disabled,
        }

    @classmethod
    def from_value(cls, name: str, value: Mapping[str, Any]) -> UserRecord:
        """The way back; `DataLossError` when the record makes no sense."""
        try:
            return cls(
                **{
                    **value,
                    "name": name,
                    "role": Role(value["role"]),
                    "verbs": frozenset(map(Action, value["verbs"])),
                    "tenants": frozenset(value["tenants"]),
                }
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataLossError(f"the record of user {name} is damaged: {error}") from None
