"""Access lists: what a line takes away, from whom, and that nothing gets past it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cramjam
import pytest

from millstream_gateway.backends.embedded import EmbeddedBackend
from millstream_gateway.backends.protocol import Backend
from millstream_gateway.schemas.access import Acl, Action, Kind, Principal, Resource, Role
from millstream_gateway.services.authorization import decide
from tests.gateway.access_support import ROOT, TIME_MS, Site, bearer, settings_in, site_in
from tests.gateway.conftest import needs_engine, needs_node, node, wait_until
from tests.gateway.test_remote_read import HEADERS as READ_HEADERS
from tests.gateway.test_remote_read import read_request
from tests.gateway.test_remote_write_2 import HEADERS as RW2
from tests.gateway.test_remote_write_2 import Message, sample
from tests.gateway.ways_in import KEYED, KEYLESS, ROUTES, all_series, listening
from tests.gateway.wire import field, snappy

AT = TIME_MS // 1000
RW1 = {"Content-Type": "application/x-protobuf", "Content-Encoding": "snappy"}
EVERYTHING = '{__name__=~".+"}'


@pytest.fixture(
    params=[
        pytest.param("embedded", marks=needs_engine),
        pytest.param("nodes", marks=[needs_engine, needs_node]),
    ]
)
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    storage = settings_in(tmp_path).storage
    if request.param == "embedded":
        with site_in(tmp_path, EmbeddedBackend(storage)) as made:
            yield made
        return
    from millstream_gateway.backends.nodes import NodesBackend
    from millstream_gateway.settings import NodesSettings

    with node(storage) as address:
        backend: Backend = NodesBackend(NodesSettings(addresses=(address,)))
        with site_in(tmp_path, backend) as made:
            yield made


def add(site: Site, expected: int = 201, **wanted: Any) -> dict[str, Any]:
    body = {"subject": "*", "resource": "metric", "effect": "allow", **wanted}
    answer = site.client.post("/v1/admin/acls", json=body, headers=ROOT)
    assert answer.status_code == expected, answer.text
    made: dict[str, Any] = answer.json()
    return made


def fill(site: Site, headers: dict[str, str] = ROOT) -> None:
    text = (
        "# HELP up whether it is up\n# TYPE up gauge\n"
        "# HELP secret hidden_help\n# TYPE secret gauge\n"
        f'up{{env="dev"}} 1 {TIME_MS}\nup{{env="prod"}} 2 {TIME_MS}\nsecret 4 {TIME_MS}\n'
    )
    answer = site.client.post("/api/v1/import/prometheus", content=text, headers=headers)
    assert answer.status_code == 200, answer.text


def total(site: Site, headers: dict[str, str], selector: str = EVERYTHING) -> int:
    params = {"query": f"sum({selector}) or vector(0)", "time": str(AT)}
    answer = site.client.get("/api/v1/query", params=params, headers=headers)
    assert answer.status_code == 200, answer.text
    return int(answer.json()["data"]["result"][0]["value"][1])


def test_a_caller_sees_what_is_allowed_and_not_denied_on_every_route(site: Site) -> None:
    fill(site)
    key = site.issue(role="readonly")
    mine = bearer(key["key"])
    assert total(site, mine) == 7
    add(site, subject=f"key:{key['id']}", pattern="up")
    assert total(site, mine) == 3
    add(site, subject="role:readonly", pattern='{env="prod"}', effect="deny")
    assert total(site, mine) == 1
    assert total(site, ROOT) == 7
    span = {"start": str(AT - 60), "end": str(AT + 60), "step": "60"}
    params = {"query": "secret", "match[]": EVERYTHING, "metric": "", **span}
    for path in (
        "/api/v1/query",
        "/api/v1/query_range",
        "/api/v1/series",
        "/api/v1/labels",
        "/api/v1/label/env/values",
        "/api/v1/label/__name__/values",
        "/api/v1/metadata",
        "/api/v1/query_exemplars",
    ):
        answer = site.client.get(path, params=params, headers=mine)
        assert answer.status_code == 200, (path, answer.text)
        assert "prod" not in answer.text, path
        assert "secret" not in answer.text, path
        assert "hidden" not in answer.text, path
    request = read_request(".+", kind=2)
    read = site.client.post("/api/v1/read", content=request, headers={**mine, **READ_HEADERS})
    assert read.status_code == 200, read.text
    series = bytes(cramjam.snappy.decompress_raw(read.content))
    assert b"dev" in series
    assert b"prod" not in series
    assert b"secret" not in series
    assert site.names(mine) == ["up"]
    assert "whether it is up" in site.client.get("/api/v1/metadata", headers=mine).text
    status = site.client.get("/api/v1/status/tsdb", headers=mine)
    assert status.status_code == 403
    assert "access lists" in status.json()["error"]


def test_a_writer_stores_what_is_allowed_and_is_told_the_rest(site: Site) -> None:
    key = site.issue()
    mine = bearer(key["key"])
    add(site, subject=f"key:{key['id']}", pattern="up", verbs=["write"])
    items = [
        {"name": name, "value": 1.0, "timestamp": TIME_MS} for name in ("secret", "up", "fresh")
    ]
    for _ in range(2):
        answer = site.client.post("/metrics", json={"metrics": items}, headers=mine)
        assert answer.status_code == 200
        told = answer.json()
        assert (told["accepted"], told["rejected"]) == (1, 2)
        assert [one["index"] for one in told["errors"]] == [0, 2]
        assert {one["code"] for one in told["errors"]} == {"PERMISSION_DENIED"}
    assert site.names(ROOT) == ["up"]
    assert total(site, mine) == 1, "reading is not what the line is about"
    assert site.push(ROOT, "secret") == 200


@needs_engine
def test_no_way_in_gets_past_access_lists(tmp_path: Path) -> None:
    ways = {**ROUTES, **KEYED, **KEYLESS}
    with listening(tmp_path, EmbeddedBackend(settings_in(tmp_path).storage)) as site:
        key = site.issue()
        mine = bearer(key["key"])
        for subject in (f"key:{key['id']}", "listener:graphite", "listener:statsd"):
            add(site, subject=subject, pattern='{env="prod"}', effect="deny", verbs=["write"])
        for number, (way, send) in enumerate(ways.items()):
            # What comes by datagram is handled in order, so that the second tells of the first.
            assert send(site, mine, f"m{number}", {"env": "prod"}) in (0, 200, 204, 400, 403), way
            assert send(site, mine, f"m{number}", {"env": "dev"}) in (0, 200, 202, 204), way
        wait_until(lambda: len([s for s in all_series(site, ROOT) if "env=dev" in s]) == len(ways))
        assert [s for s in all_series(site, ROOT) if "env=prod" in s] == []


@needs_engine
def test_a_pushed_group_is_changed_only_by_who_may_write_what_it_has(tmp_path: Path) -> None:
    with site_in(tmp_path, EmbeddedBackend(settings_in(tmp_path).storage)) as site:
        key = site.issue()
        mine = bearer(key["key"])
        add(site, subject=f"key:{key['id']}", pattern="good", verbs=["write"])

        def pushed(method: str, text: str, headers: dict[str, str]) -> int:
            path = "/metrics/job/j"
            return site.client.request(method, path, content=text, headers=headers).status_code

        def now() -> dict[str, str]:
            answer = site.client.get(
                "/api/v1/query", params={"query": '{job="j"}'}, headers=ROOT
            ).json()
            found = {one["metric"]["__name__"]: one["value"][1] for one in answer["data"]["result"]}
            found.pop("push_time_seconds", None)
            return found

        assert pushed("POST", "bad 1\n", mine) == 403
        assert pushed("PUT", "good 1\nbad 1\n", mine) == 403
        assert now() == {}
        assert pushed("POST", "bad 1\n", ROOT) == 200
        assert now() == {"bad": "1", "push_failure_time_seconds": "0"}
        for method, text in (("PUT", "good 2\n"), ("POST", "bad 2\n"), ("DELETE", "")):
            assert pushed(method, text, mine) == 403, method
        assert pushed("POST", "what is this\n", mine) == 400
        assert now() == {"bad": "1", "push_failure_time_seconds": "0"}
        assert pushed("POST", "good 3\n", mine) == 200
        assert now() == {"bad": "1", "good": "3", "push_failure_time_seconds": "0"}
        assert pushed("PUT", "good 4\n", ROOT) == 200
        assert pushed("DELETE", "", mine) == 202
        assert now() == {}


def test_lines_count_at_once_and_no_longer_than_they_are_there(site: Site) -> None:
    fill(site)
    mine = site.headers(role="readonly")
    line = add(site, pattern="secret", effect="deny")
    assert total(site, mine) == 3
    assert total(site, ROOT) == 3, "everybody is everybody"
    gone = site.client.delete(f"/v1/admin/acls/{line['id']}", headers=ROOT)
    assert gone.status_code == 200
    assert total(site, mine) == 7
    assert site.client.delete(f"/v1/admin/acls/{line['id']}", headers=ROOT).status_code == 404


def test_a_line_is_about_its_tenant_only(site: Site) -> None:
    key = site.issue(tenants=["a", "b"])["key"]
    for tenant in ("a", "b"):
        fill(site, bearer(key, tenant))
    add(site, tenant="a", pattern="up")
    assert (total(site, bearer(key, "a")), total(site, bearer(key, "b"))) == (3, 7)
    assert total(site, bearer(key, "a|b")) == 10
    add(site, tenant="*", pattern="up", effect="deny")
    assert total(site, bearer(key, "a|b")) == 4


def test_several_tenants_are_read_at_once(site: Site) -> None:
    key = site.issue(tenants=["a", "b"])["key"]
    for tenant, value in (("a", 1.0), ("b", 2.0)):
        assert site.push(bearer(key, tenant), "m", value, host=tenant) == 200
    both = bearer(key, "a|b")
    answer = site.client.get(
        "/api/v1/query", params={"query": "m", "time": str(AT)}, headers=both
    ).json()
    assert [one["metric"] for one in answer["data"]["result"]] == [
        {"__name__": "m", "__tenant_id__": "a", "host": "a"},
        {"__name__": "m", "__tenant_id__": "b", "host": "b"},
    ]
    assert total(site, both) == 3
    assert total(site, both, 'm{__tenant_id__="b"}') == 2
    values = site.client.get("/api/v1/label/__tenant_id__/values", headers=both).json()["data"]
    assert values == ["a", "b"]
    listed = site.client.get("/api/v1/series", params={"match[]": "m"}, headers=both).json()
    assert {one["__tenant_id__"] for one in listed["data"]} == {"a", "b"}
    assert site.client.get("/api/v1/labels", headers=bearer(key, "a|a")).json()["data"] == [
        "__name__",
        "host",
    ]
    read = site.client.post(
        "/api/v1/read", content=read_request("m"), headers={**both, **READ_HEADERS}
    )
    series = bytes(cramjam.snappy.decompress_raw(read.content))
    assert series.count(b"__tenant_id__") == 2
    for name in ("a", "b"):
        sample_line = f'calls_total 1 # {{trace_id="of_{name}"}} 1 1732000000'
        answer = site.client.post(
            "/api/v1/import/prometheus",
            content=f"# TYPE calls counter\n{sample_line}\n# EOF\n",
            headers={**bearer(key, name), "Content-Type": "application/openmetrics-text"},
        )
        assert answer.status_code == 200, answer.text
    span = {"start": "1731999999", "end": "1732000001"}
    found = site.client.get(
        "/api/v1/query_exemplars", params={"query": "calls_total", **span}, headers=both
    ).json()["data"]
    assert [
        (one["seriesLabels"]["__tenant_id__"], one["exemplars"][0]["labels"]["trace_id"])
        for one in found
    ] == [("a", "of_a"), ("b", "of_b")]
    assert site.push(both, "m") == 400
    assert site.get("/api/v1/status/tsdb", both) == 501
    assert site.get("/api/v1/labels", bearer(key, "a|default")) == 403
    of_b = site.headers(tenants=["b"])
    assert site.get("/api/v1/labels", {**of_b, "X-Scope-OrgID": "a|b"}) == 403
    assert site.get("/api/v1/labels", {**ROOT, "X-Scope-OrgID": "a|nowhere"}) == 404


@pytest.mark.parametrize(
    "wanted",
    [
        {"pattern": "up{"},
        {"pattern": "sum(up)"},
        {"pattern": "{}"},
        {"pattern": "up[5m]"},
        {"pattern": ""},
        {"pattern": "up", "subject": "nobody"},
        {"pattern": "up", "subject": "key:"},
        {"pattern": "up", "subject": "role:king"},
        {"pattern": "up", "tenant": ".."},
        {"pattern": "up", "verbs": ["admin"]},
        {"pattern": "up", "verbs": []},
        {"pattern": "up", "effect": "perhaps"},
        {"pattern": "up", "resource": "world"},
        {"pattern": "up", "more": 1},
    ],
)
@needs_engine
def test_a_line_that_means_nothing_is_refused(tmp_path: Path, wanted: dict[str, Any]) -> None:
    with site_in(tmp_path) as site:
        add(site, expected=400, **wanted)
        assert site.client.get("/v1/admin/acls", headers=ROOT).json() == {"acls": []}


@needs_engine
def test_a_line_about_a_tenant_that_there_is_not_is_refused_and_names_it(tmp_path: Path) -> None:
    with site_in(tmp_path) as site:
        refusal = add(site, expected=404, pattern="up", tenant="shpo")
        assert "shpo" in refusal["detail"]
        command = [sys.executable, "-m", "millstream", "acl", "create", "--subject", "*"]
        command += ["--effect", "deny", "--pattern", "up", "--tenant", "shpo"]
        folder = tmp_path / "elsewhere"
        told = subprocess.run(
            [*command, "--data", str(folder)], capture_output=True, text=True, check=False
        )
        assert told.returncode == 1, told.stdout + told.stderr
        assert "shpo" in told.stderr
        # A name is no way to ask which tenants there are.
        of_a = site.headers(role="admin", tenants=["a"])
        body = {"subject": "*", "resource": "metric", "pattern": "up", "effect": "deny"}
        asked = [
            site.client.post("/v1/admin/acls", json={**body, "tenant": name}, headers=of_a)
            for name in ("default", "shpo")
        ]
        assert [one.status_code for one in asked] == [403, 403]
        assert site.client.get("/v1/admin/acls", headers=ROOT).json() == {"acls": []}
        for makes in ("keys", "users"):
            given = {"name": makes, "role": "user", "tenants": [makes], "password": "long enough 1"}
            if makes == "keys":
                del given["password"]
            made = site.client.post(f"/v1/admin/{makes}", json=given, headers=ROOT)
            assert made.status_code == 201, made.text
            add(site, pattern="up", tenant=makes)


@needs_engine
def test_only_administrators_of_a_tenant_see_and_change_its_lines(tmp_path: Path) -> None:
    with site_in(tmp_path) as site:
        of_a = site.headers(role="admin", tenants=["a"])
        site.issue(tenants=["b"])
        line = add(site, tenant="b", pattern="up")
        everywhere = add(site, tenant="*", pattern="up")
        assert site.client.get("/v1/admin/acls", headers=of_a).json() == {"acls": []}
        for made in (line, everywhere):
            assert (
                site.client.delete(f"/v1/admin/acls/{made['id']}", headers=of_a).status_code == 404
            )
        body = {"subject": "*", "resource": "metric", "pattern": "up", "effect": "allow"}
        for tenant in ("b", "*"):
            answer = site.client.post(
                "/v1/admin/acls", json={**body, "tenant": tenant}, headers=of_a
            )
            assert answer.status_code == 403
        mine = site.client.post("/v1/admin/acls", json={**body, "tenant": "a"}, headers=of_a)
        assert mine.status_code == 201
        user = site.headers(tenants=["a"])
        assert site.client.get("/v1/admin/acls", headers=user).status_code == 403
        assert site.client.post("/v1/admin/acls", json=body, headers=user).status_code == 403


def principal(**other: Any) -> Principal:
    values: dict[str, Any] = {
        "kind": "key",
        "id": "1",
        "name": "k",
        "role": Role.USER,
        "verbs": frozenset({Action.READ, Action.WRITE}),
        "tenants": frozenset({"t"}),
    }
    return Principal(**{**values, **other})


def acl(pattern: str, *, allows: bool, kind: Kind = Kind.TOPIC, **other: Any) -> Acl:
    values: dict[str, Any] = {
        "id": "x",
        "subject": "*",
        "tenant": "t",
        "verbs": frozenset({Action.READ}),
    }
    return Acl(pattern=pattern, allows=allows, kind=kind, **{**values, **other})


@pytest.mark.parametrize("kind", [Kind.TOPIC, Kind.TABLE])
@pytest.mark.parametrize(
    ("acls", "allowed"),
    [
        ([], True),
        ([("orders.*", True)], True),
        ([("bills.*", True)], False),
        ([("*", True), ("orders.*", False)], False),
        ([("orders.new", False), ("orders.new", True)], False),
        ([("bills.*", False)], True),
        ([("orders", True)], False),
        ([("orders.n*w", True)], True),
    ],
)
def test_topics_and_tables_are_decided_by_patterns(
    kind: Kind, acls: list[tuple[str, bool]], allowed: bool
) -> None:
    lines = [acl(pattern, allows=allows, kind=kind) for pattern, allows in acls]
    names: dict[str, Any] = {kind.value: "orders.new"}
    resource = Resource(frozenset({"t"}), **names)
    assert decide(principal(), Action.READ, resource, lines).allowed is allowed
    assert decide(principal(), Action.WRITE, resource, lines).allowed, "lines about reading"


def test_lines_give_nothing_to_whom_keys_and_tenants_give_nothing() -> None:
    line = acl("*", allows=True, tenant="*")
    resource = Resource(frozenset({"t"}), topic="orders")
    assert not decide(principal(tenants=frozenset({"u"})), Action.READ, resource, [line]).allowed
    assert not decide(principal(verbs=frozenset()), Action.READ, resource, [line]).allowed
    assert not decide(principal(topics=("bills",)), Action.READ, resource, [line]).allowed


@needs_engine
def test_the_command_line_works_on_a_folder(tmp_path: Path) -> None:
    def run(*arguments: str) -> tuple[int, str, str]:
        done = subprocess.run(
            [sys.executable, "-m", "millstream", "acl", *arguments, "--data", str(tmp_path / "d")],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stdout, done.stderr

    made = run("create", "--subject", "*", "--effect", "deny", "--pattern", '{env="prod"}')
    assert made[0] == 0, made
    acl_id = made[1].strip()
    listed = run("list", "--output", "json")
    assert f'"id": "{acl_id}"' in listed[1]
    assert '"effect": "deny"' in listed[1]
    assert acl_id in run("list")[1]
    wrong = run("create", "--subject", "*", "--effect", "deny", "--pattern", "up{")
    assert wrong[0] == 1
    assert wrong[2].startswith("error: ")
    assert run("delete", acl_id)[0] == 0
    assert run("delete", acl_id)[0] == 1
    assert run("list", "--output", "json")[1] == "[]\n"


def test_a_line_about_a_subject_that_nobody_is_is_refused(site: Site) -> None:
    line = {"tenant": "default", "resource": "metric", "pattern": "up", "effect": "deny"}

    def code(subject: str) -> int:
        answer = site.client.post("/v1/admin/acls", json={**line, "subject": subject}, headers=ROOT)
        return answer.status_code

    assert [code(nobody) for nobody in ("user:*", "key:a*", "listener:*")] == [400] * 3
    assert code("key:nope") == 404
    assert code(f"key:{site.issue()['id']}") == 201
    assert code("user:https://issuer.example/ann") == 201


def test_metadata_of_series_that_a_writer_may_not_write_changes_nothing(site: Site) -> None:
    fill(site)
    key = site.issue()
    mine = bearer(key["key"])
    add(site, subject=f"key:{key['id']}", pattern='{env="prod"}', effect="deny")
    seed = Message()
    seed.add(
        {"__name__": "secret_total", "env": "prod"},
        sample(1, TIME_MS),
        seed.metadata(1, "true", ""),
    )
    assert (
        site.client.post(
            "/api/v1/write", content=seed.encode(), headers={**ROOT, **RW2}
        ).status_code
        == 204
    )

    def told() -> Any:
        answer = site.client.get("/api/v1/metadata?metric=secret_total", headers=ROOT)
        return [(one["type"], one["help"]) for one in answer.json()["data"]["secret_total"]]

    evil = Message()
    evil.add(
        {"__name__": "secret_total", "env": "prod"},
        sample(2, TIME_MS),
        evil.metadata(2, "EVIL", ""),
    )
    answer = site.client.post("/api/v1/write", content=evil.encode(), headers={**mine, **RW2})
    assert answer.status_code == 400
    assert told() == [("counter", "true")]
    alone = field(3, b"\x08\x02" + field(2, b"secret_total") + field(4, b"EVIL"))
    answer = site.client.post("/api/v1/write", content=snappy(alone), headers={**mine, **RW1})
    assert answer.status_code == 204
    assert told() == [("counter", "true")]
    own = Message()
    own.add(
        {"__name__": "secret_total", "env": "dev"}, sample(2, TIME_MS), own.metadata(1, "mine", "")
    )
    answer = site.client.post("/api/v1/write", content=own.encode(), headers={**mine, **RW2})
    assert answer.status_code == 204
    assert told() == [("counter", "mine")]
