"""Where the commands for keys, users and tenants work: a server over HTTP, or the files of a folder."""

from __future__ import annotations

import getpass
import os
import urllib.parse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import typer

from millstream.cli.remote import Remote
from millstream.errors import FailedPreconditionError
from millstream.times import parse_duration_ms

if TYPE_CHECKING:
    from millstream_gateway.schemas.access import Caller
    from millstream_gateway.services.access import AccessControl

Described = dict[str, Any]


class Directory(Protocol):
    """Keys, users and tenants, as the routes of `/v1/admin` describe them."""

    def create_key(self, wanted: Described) -> Described: ...

    def keys(self) -> list[Described]: ...

    def revoke_key(self, key_id: str) -> Described: ...

    def rotate_key(self, key_id: str, overlap: str) -> Described: ...

    def create_user(self, wanted: Described) -> Described: ...

    def users(self) -> list[Described]: ...

    def change_user(self, name: str, change: Described) -> Described: ...

    def delete_user(self, name: str) -> Described: ...

    def create_tenant(self, name: str) -> Described: ...

    def tenants(self) -> list[Described]: ...

    def create_acl(self, wanted: Described) -> Described: ...

    def acls(self) -> list[Described]: ...

    def delete_acl(self, acl_id: str) -> Described: ...


@contextmanager
def directory_of(server: str | None, data: Path | None, token: str | None) -> Iterator[Directory]:
    """Exactly one of the two."""
    if (server is None) == (data is None):
        raise typer.BadParameter("give either --server URL or --data DIR")
    if server is not None:
        with closing(Remote(server, token)) as remote:
            yield ServerDirectory(remote)
        return
    from millstream_gateway.services.access import AccessControl
    from millstream_gateway.settings import Settings, StorageSettings

    _refuse_foreign(Path(str(data)))
    access = AccessControl(Settings(storage=StorageSettings(path=str(data))))
    access.open()
    try:
        yield FolderDirectory(access)
    finally:
        access.close()


class ServerDirectory:
    """The routes of a server."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    def create_key(self, wanted: Described) -> Described:
        return self._remote.json("POST", "/v1/admin/keys", wanted)

    def keys(self) -> list[Described]:
        return _list(self._remote.json("GET", "/v1/admin/keys")["keys"])

    def revoke_key(self, key_id: str) -> Described:
        return self._remote.json("DELETE", _key_path(key_id))

    def rotate_key(self, key_id: str, overlap: str) -> Described:
        path = f"{_key_path(key_id)}/rotate"
        return self._remote.json("POST", path, {"overlap": overlap})

    def create_user(self, wanted: Described) -> Described:
        return self._remote.json("POST", "/v1/admin/users", wanted)

    def users(self) -> list[Described]:
        return _list(self._remote.json("GET", "/v1/admin/users")["users"])

    def change_user(self, name: str, change: Described) -> Described:
        return self._remote.json("PATCH", _user_path(name), change)

    def delete_user(self, name: str) -> Described:
        return self._remote.json("DELETE", _user_path(name))

    def create_tenant(self, name: str) -> Described:
        return self._remote.json("POST", "/v1/admin/tenants", {"name": name})

    def tenants(self) -> list[Described]:
        return _list(self._remote.json("GET", "/v1/admin/tenants")["tenants"])

    def create_acl(self, wanted: Described) -> Described:
        return self._remote.json("POST", "/v1/admin/acls", wanted)

    def acls(self) -> list[Described]:
        return _list(self._remote.json("GET", "/v1/admin/acls")["acls"])

    def delete_acl(self, acl_id: str) -> Described:
        path = f"/v1/admin/acls/{urllib.parse.quote(acl_id, safe='')}"
        return self._remote.json("DELETE", path)


class FolderDirectory:
    """The files themselves. Whoever may write them is an administrator."""

    def __init__(self, access: AccessControl) -> None:
        self._access = access

    def create_key(self, wanted: Described) -> Described:
        from millstream_gateway.schemas.access import Action, Role
        from millstream_gateway.schemas.keys import KeyRequest

        expires = wanted.get("expires")
        request = KeyRequest(
            name=wanted["name"],
            role=Role(wanted["role"]),
            tenants=frozenset(wanted["tenants"]),
            verbs=frozenset(map(Action, wanted["verbs"] or ())),
            topics=tuple(wanted["topics"]),
            expires_in_ms=None if expires is None else parse_duration_ms(expires),
        )
        record, key = self._access.keys.create(_local_caller(), request)
        return {**self._access.keys.describe(record), "key": key}

    def keys(self) -> list[Described]:
        keys = self._access.keys
        return [keys.describe(key) for key in keys.list(_local_caller())]

    def revoke_key(self, key_id: str) -> Described:
        keys = self._access.keys
        return keys.describe(keys.revoke(_local_caller(), key_id))

    def rotate_key(self, key_id: str, overlap: str) -> Described:
        keys = self._access.keys
        record, key = keys.rotate(_local_caller(), key_id, parse_duration_ms(overlap))
        return {**keys.describe(record), "key": key}

    def create_user(self, wanted: Described) -> Described:
        from millstream_gateway.schemas.access import Action, Role
        from millstream_gateway.schemas.users import UserRequest
        from millstream_gateway.services.users import describe

        request = UserRequest(
            name=wanted["name"],
            password=wanted["password"],
            role=Role(wanted["role"]),
            tenants=frozenset(wanted["tenants"]),
            verbs=frozenset(map(Action, wanted["verbs"] or ())),
        )
        return describe(self._access.users.create(_local_caller(), request))

    def users(self) -> list[Described]:
        from millstream_gateway.services.users import describe

        return [describe(user) for user in self._access.users.visible_to(_local_caller())]

    def change_user(self, name: str, change: Described) -> Described:
        from millstream_gateway.services.users import describe

        return describe(
            self._access.users.change(
                _local_caller(),
                name,
                password=change.get("password"),
                disabled=change.get("disabled"),
            )
        )

    def delete_user(self, name: str) -> Described:
        from millstream_gateway.services.users import describe

        return describe(self._access.users.delete(_local_caller(), name))

    def create_tenant(self, name: str) -> Described:
        made = self._access.tenants.create(_local_caller(), name)
        return {"name": made.name, "id": made.id, "created_ms": made.created_ms}

    def tenants(self) -> list[Described]:
        found = self._access.tenants.list(_local_caller())
        return [{"name": one.name, "id": one.id, "created_ms": one.created_ms} for one in found]

    def create_acl(self, wanted: Described) -> Described:
        from millstream_gateway.schemas.access import Action, Kind
        from millstream_gateway.services.acls import describe

        made = self._access.acls.create(
            _local_caller(),
            subject=wanted["subject"],
            tenant=wanted["tenant"],
            kind=Kind(wanted["resource"]),
            pattern=wanted["pattern"],
            allows=wanted["effect"] == "allow",
            verbs=frozenset(map(Action, wanted["verbs"])),
        )
        return describe(made)

    def acls(self) -> list[Described]:
        from millstream_gateway.services.acls import describe

        return [describe(acl) for acl in self._access.acls.list(_local_caller())]

    def delete_acl(self, acl_id: str) -> Described:
        from millstream_gateway.services.acls import describe

        return describe(self._access.acls.delete(_local_caller(), acl_id))


def _refuse_foreign(folder: Path) -> None:
    """Keys are made in a database's folder, or in one that can become it: nowhere else."""
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    if names - {"lost+found"} and not names & {"LOCK", "meta"}:
        raise FailedPreconditionError(
            f"{folder} is no Millstream database and not empty; give its folder, or a new one"
        )


def _local_caller() -> Caller:
    from millstream_gateway.schemas.access import EVERY_TENANT, VERBS, Caller, Principal, Role

    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "somebody"
    return Caller(
        Principal(
            kind="local",
            id=str(os.getuid()),
            name=name,
            role=Role.ADMIN,
            verbs=VERBS,
            tenants=frozenset({EVERY_TENANT}),
        )
    )


def _key_path(key_id: str) -> str:
    return f"/v1/admin/keys/{urllib.parse.quote(key_id, safe='')}"


def _user_path(name: str) -> str:
    return f"/v1/admin/users/{urllib.parse.quote(name, safe='')}"


def _list(items: object) -> list[Described]:
    return list(items) if isinstance(items, list) else []
