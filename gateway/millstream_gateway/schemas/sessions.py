"""Who is signed in, as it is stored. Nothing stored can be turned back into a token."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from millstream.errors import DataLossError


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """One sign-in. Times are Unix milliseconds.

    A session of a key (``kind`` key or admin_key) takes what it may do from the key, each time; one
    of a person (user) carries it. ``verbs`` narrow it down. A refresh token has two secret halves:
    one is the session's own and stays, the other changes with each use. Of both the SHA-256 is
    kept: whoever brings the right first half and a wrong second one has a token that was used.
    ``key_digest`` says which secret of a key it was, as the key's record does: the session ends
    with that secret.
    """

    id: str
    kind: str
    subject: str
    issuer: str
    name: str
    role: str
    verbs: tuple[str, ...]
    tenants: tuple[str, ...]
    family_digest: str
    current_digest: str
    created_ms: int
    renewed_ms: int
    expires_ms: int
    client: str
    renewals: int = 0
    key_digest: str = ""

    def to_value(self) -> dict[str, Any]:
        """As the MetaStore keeps it."""
        value = asdict(self)
        del value["id"]
        return {**value, "verbs": list(self.verbs), "tenants": list(self.tenants)}

    @classmethod
    def from_value(cls, session_id: str, value: Mapping[str, Any]) -> SessionRecord:
        """The way back; `DataLossError` when the record makes no sense."""
        try:
            return cls(
                **{
                    **value,
                    "id": session_id,
                    "verbs": tuple(value["verbs"]),
                    "tenants": tuple(value["tenants"]),
                }
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataLossError(f"the session {session_id} is damaged: {error}") from None
