"""Whatever is wrong with a request is told as a problem that names the field and the remedy."""

import asyncio
import json
import logging
import math
from typing import Any

import pytest
from tests.servers.http.world import INSTANCE, World, check_problem, of, served

from waypost.errors import (
    CorruptData,
    Invalid,
    NoInstance,
    Overloaded,
    ReadOnly,
    Rejected,
    Superseded,
    TimedOut,
    TooStale,
    Unavailable,
    UnknownInstance,
    UnknownService,
    UnknownSession,
    WaypostError,
)
from waypost.node.registry import Registry
from waypost.servers.http.problems import problem_response
from waypost.servers.web import requests
from waypost.wire import Resolve, Resolved

WEB_1 = of("web") + "/instances/web-1"


# Errors of the registry


@pytest.mark.parametrize(
    ("error", "status", "retryable"),
    [
        (Invalid("port: x", field="port"), 400, False),
        (NoInstance("x"), 404, False),
        (UnknownService("x"), 404, False),
        (UnknownInstance("x"), 404, False),
        (UnknownSession("x"), 404, False),
        (Rejected("x"), 409, False),
        (Superseded("x"), 409, False),
        (Unavailable("x"), 503, True),
        (Overloaded("x"), 503, True),
        (ReadOnly("x"), 503, True),
        (TooStale("x"), 503, True),
        (TimedOut("x"), 504, True),
        (CorruptData("x"), 500, False),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_error_has_a_status_of_its_own(
    error: WaypostError, status: int, retryable: bool
) -> None:
    response = problem_response(error)
    problem = json.loads(bytes(response.body))

    assert response.status_code == problem["status"] == status
    assert problem["code"] == error.code
    assert problem["detail"] == error.message
    assert problem["retryable"] is retryable
    assert problem.get("field") == getattr(error, "field", None)


@pytest.mark.parametrize("seconds", [0.1, 1.0, 2.5])
def test_who_is_to_come_back_later_is_told_when(seconds: float) -> None:
    response = problem_response(Overloaded("x", retry_after=seconds))

    assert json.loads(bytes(response.body))["retry_after"] == seconds
    assert int(response.headers["retry-after"]) == math.ceil(seconds)


class Broken(Registry):
    async def resolve(self, request: Resolve) -> Resolved:
        raise KeyError("the secret inside")


@served(make=Broken)
async def test_a_mistake_of_ours_is_logged_and_not_shown(world: World) -> None:
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append  # type: ignore[method-assign]
    logging.getLogger("waypost.http").addHandler(handler)
    try:
        problem = await world.get(of("web") + "?zone=a", 500)
    finally:
        logging.getLogger("waypost.http").removeHandler(handler)

    assert problem["code"] == "internal"
    assert "secret" not in str(problem)
    (record,) = records
    assert record.exc_info is not None
    assert isinstance(record.exc_info[1], KeyError)


class Stale(Registry):
    async def resolve(self, request: Resolve) -> Resolved:
        raise TooStale(f"more than {request.max_stale_ms} ms old")


@served(make=Stale)
async def test_a_bound_on_staleness_reaches_the_registry(world: World) -> None:
    assert "1500 ms" in (await world.get(of("web") + "?max_stale=1.5s", 503))["detail"]
    assert "20 ms" in (await world.get(of("web") + "?max_stale=20ms", 503))["detail"]
    assert "-1 ms" in (await world.get(of("web") + "?zone=a", 503))["detail"]


# Paths, methods and parameters


@pytest.mark.parametrize(
    "path",
    ["/nope", "/api/v1", "/api/v1/services/", "/api/v1/services/a/b/c", "/healthz/", "/%2e"],
)
@served
async def test_nothing_is_served_at_other_paths(world: World, path: str) -> None:
    assert (await world.get(path, 404))["code"] == "not-found"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("POST", "/healthz", "GET, HEAD"),
        ("DELETE", of("web"), "GET, HEAD"),
        ("GET", WEB_1, "DELETE, PUT"),
        ("PATCH", of("team-a/web") + "/instances/a", "DELETE, PUT"),
        ("GET", WEB_1 + "/renew", "POST"),
        ("HEAD", "/api/v1/watch", "GET"),
        ("OPTIONS", "/api/v1/batch", "POST"),
        ("TRACE", "/", "GET, HEAD"),
        ("BREW", "/", "GET, HEAD"),
    ],
)
@served
async def test_a_path_says_which_methods_it_takes(
    world: World, method: str, path: str, allow: str
) -> None:
    answer = await world.ask(method, path, 405)

    assert answer.headers["allow"] == allow


@pytest.mark.parametrize(
    ("path", "field"),
    [
        (of("WEB"), "service"),
        (of("-web"), "service"),
        (of("w" * 64), "service"),
        (of("a_b/web"), "service"),
        (of("web%00"), "service"),
        (of("%20"), "service"),
        (of("web") + "/instances/-a/renew", "id"),
        (of("web") + "/instances/a%20b/renew", "id"),
        (of("web") + "/instances/" + "a" * 129 + "/renew", "id"),
        (of("web") + "?healht=any", "healht"),
        (of("web") + "?health=fine", "health"),
        (of("web") + "?health=any&health=any", "health"),
        (of("web") + "?zone=a&zone=b", "zone"),
        (of("web") + "?meta.k=a&meta.k=b", "meta.k"),
        (of("web") + "?consistency=strong", "consistency"),
        (of("web") + "?max_stale=soon", "max_stale"),
        (of("web") + "?max_stale=-1", "max_stale"),
        (of("web") + "?max_stale=", "max_stale"),
        (of("web") + "?max_stale=1e3", "max_stale"),
        (of("web") + "?max_stale=%D9%A1", "max_stale"),
        ("/api/v1/services?x=1", "x"),
        ("/healthz?verbose", "verbose"),
        ("/api/v1/watch?since=-1", "since"),
        ("/api/v1/watch?since=x", "since"),
        ("/api/v1/watch?since=" + "9" * 19, "since"),
        ("/api/v1/watch?service=A", "service"),
        (of("%zz"), "url"),
        (of("web%"), "url"),
        (of("web") + "?zone=%f", "url"),
        (of("%ff"), "url"),
        (of("web") + "?zone=%ff", "url"),
    ],
)
@served
async def test_a_wrong_path_or_parameter_is_named(world: World, path: str, field: str) -> None:
    method = "POST" if path.endswith("/renew") else "GET"
    # httpx2 would repair some of these paths.
    raw = await world.raw(
        f"{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode()
    )

    head, _, body = raw.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400"), raw
    assert json.loads(body)["field"] == field


@pytest.mark.parametrize("incarnation", ["-1", "x", "1.0", str(1 << 53)])
@served
async def test_a_wrong_incarnation_is_named(world: World, incarnation: str) -> None:
    assert (await world.delete(f"{WEB_1}?incarnation={incarnation}", 400))["field"] == "incarnation"


@served
async def test_a_wrong_last_event_id_is_named(world: World) -> None:
    answer = await world.ask("GET", "/api/v1/watch", 400, headers={"last-event-id": "a"})

    assert answer.json()["field"] == "Last-Event-ID"


# Bodies


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"[]", "body"),
        (b"null", "body"),
        (b'"host"', "body"),
        (b'{"host":"h","port":1} x', "body"),
        (b'{"host":"h","port":1,}', "body"),
        (b"{'host':'h'}", "body"),
        (b"\xff\xfe{}", "body"),
        (b'{"host":"\xff","port":1}', "body"),
        (b'{"host":"\\ud800","port":1}', "body"),
        (b'{"host":"h","port":NaN}', "body"),
        (b"[" * 100_000, "body"),
        (b'{"host":"h","port":1,"meta":' + b'{"a":' * 100_000, "meta[...]"),
        (b"{}", "host"),
        (b'{"host":"h"}', "port"),
        (b'{"host":"h","port":"1"}', "port"),
        (b'{"host":"h","port":1.5}', "port"),
        (b'{"host":"h","port":0}', "port"),
        (b'{"host":"h","port":65536}', "port"),
        (b'{"host":"h","port":1' + b"0" * 400 + b"}", "port"),
        (b'{"host":"","port":1}', "host"),
        (b'{"host":"a b","port":1}', "host"),
        (b'{"host":"h","port":1,"weight":-1}', "weight"),
        (b'{"host":"h","port":1,"weight":1e999}', "weight"),
        (b'{"host":"h","port":1,"zone":null}', "zone"),
        (b'{"host":"h","port":1,"zone":"\\u0000"}', "zone"),
        (b'{"host":"h","port":1,"tags":"a"}', "tags"),
        (b'{"host":"h","port":1,"tags":["a",1]}', "tags[1]"),
        (b'{"host":"h","port":1,"tags":[""]}', "tags"),
        (b'{"host":"h","port":1,"meta":{"a":1}}', "meta[...]"),
        (b'{"host":"h","port":1,"ports":{"a":0}}', "ports"),
        (b'{"host":"h","port":1,"ttl":-1}', "ttl"),
        (b'{"host":"h","port":1,"ttl":-0.0001}', "ttl"),
        (b'{"host":"h","port":1,"ttl":0.0001}', "ttl"),
        (b'{"host":"h","port":1,"ttl":0.4}', "ttl"),
        (b'{"host":"h","port":1,"ttl":86401}', "ttl"),
        (b'{"host":"h","port":1,"ttl":1e300}', "ttl"),
        (b'{"host":"h","port":1,"ttl":"10s"}', "ttl"),
        (b'{"host":"h","port":1,"health":"fine"}', "health"),
        (b'{"host":"h","port":1,"why":"' + b"x" * 513 + b'"}', "why"),
        (b'{"host":"h","port":1,"incarnation":-1}', "incarnation"),
        (b'{"host":"h","port":1,"incarnation":9007199254740992}', "incarnation"),
        (b'{"host":"h","port":1,"incarnation":1' + b"0" * 400 + b"}", "incarnation"),
        (b'{"host":"h","prot":1}', "prot"),
        (b'{"host":"h","port":1,"Ttl":1}', "Ttl"),
        (b'{"host":"h","port":1,"":1}', ""),
    ],
    ids=lambda value: str(value)[:60],
)
@served
async def test_a_wrong_body_is_named_and_changes_nothing(
    world: World, body: bytes, field: str
) -> None:
    answer = await world.ask("PUT", WEB_1, 400, content=body)

    problem = answer.json()
    assert problem["code"] == "invalid"
    assert problem.get("field", "") == field, problem
    assert len(problem["detail"]) < 1000
    await world.get(of("web"), 404)


@pytest.mark.parametrize(
    ("path", "body", "field", "known"),
    [
        (WEB_1, {**INSTANCE, "prot": 1}, "prot", {"port", "ttl", "meta"}),
        (WEB_1 + "/health", {"health": "passing", "state": 1}, "state", {"health", "why"}),
        (WEB_1 + "/drain", {"timeout": 1}, "timeout", {"deadline"}),
        ("/api/v1/batch", {"commands": []}, "commands", {"items"}),
        (
            "/api/v1/batch",
            {"items": [{"op": "deregister", "service": "a", "id": "b", "host": "h"}]},
            "items[0].host",
            {"op", "service", "id", "incarnation"},
        ),
        (
            "/api/v1/batch",
            {"items": [{"op": "register", "service": "a", "id": "b", **INSTANCE, "x": 1}]},
            "items[0].x",
            {"op", "service", "id", "ttl"},
        ),
    ],
)
@served
async def test_a_field_that_is_not_known_is_refused_with_those_that_are(
    world: World, path: str, body: object, field: str, known: set[str]
) -> None:
    method = "PUT" if path == WEB_1 else "POST"

    problem = (await world.ask(method, path, 400, json=body)).json()

    assert problem["field"] == field
    listed = problem["detail"].partition("known are: ")[2].split(", ")
    assert known <= set(listed)
    assert field.rpartition(".")[2] not in listed


@pytest.mark.parametrize(
    ("items", "field"),
    [
        ([{"op": "remove", "service": "a", "id": "b"}], "items[0].op"),
        ([{"service": "a", "id": "b"}], "items[0].op"),
        ([{"op": "renew", "service": "a"}], "items[0].id"),
        ([{"op": "renew", "service": "A", "id": "b"}], "items[0].service"),
        (
            [{"op": "deregister", "service": "a", "id": "b", "incarnation": -1}],
            "items[0].incarnation",
        ),
        ([{"op": "set_health", "service": "a", "id": "b", "health": 1}], "items[0].health"),
        ([{"op": "set_health", "service": "a", "id": "", "health": "passing"}], "items[0].id"),
        ([1], "items[0]"),
        ({}, "items"),
    ],
)
@served
async def test_a_wrong_item_of_a_batch_is_named(world: World, items: object, field: str) -> None:
    assert (await world.post("/api/v1/batch", {"items": items}, 400))["field"] == field


@pytest.mark.parametrize("deadline", [-1, 301, 1e300])
@served
async def test_a_deadline_has_limits(world: World, deadline: float) -> None:
    problem = await world.post(WEB_1 + "/drain", {"deadline": deadline}, 400)

    assert problem["field"] == "deadline"


# Sizes and speeds


@pytest.mark.parametrize("told", [True, False])
@served
async def test_a_body_has_a_limit_whether_its_length_is_told_or_not(
    world: World, told: bool
) -> None:
    async def chunks() -> Any:
        for _ in range(40):
            yield b" " * 65_536

    content = b" " * (requests.BODY_BYTES_MAX + 1) if told else chunks()
    answer = await world.ask("PUT", WEB_1, 413, content=content)

    assert answer.json()["field"] == "body"
    assert await world.get("/healthz") == {"status": "alive"}


@served
async def test_a_body_may_be_as_large_as_the_limit(world: World) -> None:
    content = json.dumps(INSTANCE).encode().ljust(requests.BODY_BYTES_MAX)

    await world.ask("PUT", WEB_1, 201, content=content)


@served
async def test_a_url_has_a_limit(world: World) -> None:
    await world.get(of("web") + "?zone=" + "a" * 8000, 404)

    assert (await world.get(of("web") + "?zone=" + "a" * 8192, 414))["field"] == "url"
    assert (await world.get("/" + "a" * 8192, 414))["field"] == "url"


@pytest.mark.parametrize("size", [33_000, 60_000])
@served
async def test_headers_have_a_limit(world: World, size: int) -> None:
    answer = await world.ask("GET", "/healthz", 431, headers={"x": "a" * size})

    assert answer.json()["field"] == "headers"


@served
async def test_headers_without_end_are_cut_off(world: World) -> None:
    reader, writer = await asyncio.open_connection(world.host, world.port)
    writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n")
    sent = 0
    try:
        async with asyncio.timeout(10):
            while not reader.at_eof() and sent < 10 << 20:
                writer.write(b"x-%d: %b\r\n" % (sent, b"a" * 1000))
                sent += 1000
                await writer.drain()
                await asyncio.sleep(0)
    except ConnectionError:
        pass
    finally:
        writer.close()

    assert sent < 5 << 20
    assert await world.get("/healthz") == {"status": "alive"}


@served
async def test_a_body_that_does_not_come_is_not_waited_for(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "BODY_TIMEOUT_S", 0.2)
    head = f"PUT {WEB_1} HTTP/1.1\r\nhost: x\r\ncontent-length: 40\r\n\r\n"

    raw = await world.raw(head.encode() + b'{"host": "h"')

    assert raw.startswith(b"HTTP/1.1 408"), raw
    assert b"12 bytes came within 0.2 s" in raw
    await world.get(of("web"), 404)


@served
async def test_a_slow_sender_holds_up_nobody(world: World) -> None:
    writers: list[asyncio.StreamWriter] = []
    for _ in range(100):
        _, writer = await asyncio.open_connection(world.host, world.port)
        writer.write(f"PUT {WEB_1} HTTP/1.1\r\nhost: x\r\ncontent-length: 40\r\n\r\n{{".encode())
        writers.append(writer)

    async with asyncio.timeout(5):
        await world.register("web", "other")
        assert len((await world.get(of("web")))["instances"]) == 1

    for writer in writers:
        writer.close()


@served
async def test_a_client_that_hangs_up_within_its_body_is_forgotten(world: World) -> None:
    _, writer = await asyncio.open_connection(world.host, world.port)
    writer.write(f"PUT {WEB_1} HTTP/1.1\r\nhost: x\r\ncontent-length: 40\r\n\r\n{{".encode())
    await writer.drain()
    writer.transport.abort()

    await world.get(of("web"), 404)


@pytest.mark.parametrize(
    "request_",
    [
        b"GARBAGE\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
@served
async def test_what_is_not_http_is_hung_up_on(world: World, request_: bytes) -> None:
    raw = await world.raw(request_ + b"\r\n" * 2)

    assert raw == b"" or raw.startswith(b"HTTP/1.1 400")
    assert await world.get("/healthz") == {"status": "alive"}


# Pages of other sites


@served
async def test_a_page_of_another_site_may_not_change_anything(world: World) -> None:
    await world.register("web", "web-1")

    for origin in ("https://evil.example", f"http://{world.host}:1", "null"):
        answer = await world.ask("POST", WEB_1 + "/renew", 403, headers={"origin": origin})
        assert answer.json()["code"] == "cross-site"
    own = f"http://{world.host}:{world.port}"
    await world.ask("POST", WEB_1 + "/renew", 200, headers={"origin": own})
    await world.ask("GET", of("web"), 200, headers={"origin": "https://evil.example"})


@served
async def test_problems_have_one_form(world: World) -> None:
    answer = await world.client.request("GET", "/nope")

    check_problem(answer)
    assert set(answer.json()) == {"type", "title", "status", "detail", "code", "retryable"}
