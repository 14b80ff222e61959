"""Whatever comes is answered; and whose agent is asked depends on where it comes from."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from waypost.node.bootstrap import NodeConfig, open_node
from waypost.node.registry import Registry
from waypost.servers.consul.door import ConsulDoor
from waypost.servers.consul.routes import OPERATIONS


class Caller:
    """Asks a door as a server of ASGI does, from an address of its own choice."""

    def __init__(self, door: ConsulDoor) -> None:
        self.door = door

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: str = "",
        body: bytes = b"",
        host: str = "10.0.0.9",
        headers: dict[str, str] | None = None,
    ) -> tuple[int, bytes]:
        told: list[Any] = []
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def receive() -> Any:
            if not messages:
                await asyncio.Event().wait()
            return messages.pop()

        async def send(message: Any) -> None:
            told.append(message)

        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(k.encode(), v.encode()) for k, v in (headers or {}).items()],
            "client": (host, 50_000),
        }
        await self.door(scope, receive, send)
        return told[0]["status"], told[1]["body"]


@contextlib.asynccontextmanager
async def door() -> AsyncIterator[Caller]:
    node = await open_node(NodeConfig(), on_fatal=print)
    try:
        yield Caller(ConsulDoor(Registry(node), "10.0.0.1:8300"))
    finally:
        await node.stop()


def test_the_node_is_the_callers_address_this_server_or_as_it_is_called() -> None:
    async def main() -> None:
        async with door() as caller:
            body = json.dumps({"Name": "web", "Port": 80}).encode()
            path = "/v1/agent/service/register"
            for host in ("10.0.0.9", "127.0.0.1", "::1", "::ffff:10.0.0.7", "2001:db8::1"):
                assert await caller.ask("PUT", path, body=body, host=host) == (200, b"")
            await caller.ask("PUT", path, body=body, headers={"x-waypost-node": "m1"})
            _, told = await caller.ask("GET", "/v1/health/service/web")
            nodes = {each["Node"]["Node"]: each["Node"]["Address"] for each in json.loads(told)}
            assert nodes == {
                "10.0.0.9": "10.0.0.9",
                "local": "10.0.0.1",
                "::ffff:10.0.0.7": "::ffff:10.0.0.7",
                "2001:db8::1": "2001:db8::1",
                "m1": "10.0.0.9",
            }
            _, told = await caller.ask("GET", "/v1/agent/services", host="127.0.0.2")
            assert list(json.loads(told)) == ["web"]
            _, told = await caller.ask("GET", "/v1/agent/services", host="10.0.0.8")
            assert json.loads(told) == {}

    asyncio.run(main())


_PATHS = sorted({operation.path for operation in OPERATIONS})
_words = st.sampled_from(
    ["web", "consul", "", "a/b", "é", "%", "..", "x" * 300, "service:web", "local", "any"]
)
_GIVEN = """
    index=1 index=x wait=1ms wait= filter=a== filter=Node==x stale near=_agent tag= tag=A&tag=b
    node-meta=a passing passing=2 dc=dc1 dc=x pretty hash=x enable=true cas=0 acquire=x recurse
    keys raw flags=x token=t node=%00 node=m1 %ff=%ff peer=p cached max_stale=1h consistent
    separator=/ release=x reason=r name=x format=text replace-existing-checks
"""
_NAMES = """
    Name ID Node Address Port Tags Meta Check Checks TTL HTTP Interval Status Service Weights
    Passing ServiceID KV Key Verb Value Session LockDelay Header TaggedAddresses CheckID
"""
_parameters = st.sampled_from([*_GIVEN.split(), "note=" + "n" * 5000])
_names = st.sampled_from(_NAMES.split())
_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=5)
    | st.sampled_from(["web", "10s", "passing", "http://x/", "10.0.0.1", "set", "_a/b"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_names, inner, max_size=5),
    max_leaves=12,
)
_bodies = _values.map(lambda value: json.dumps(value).encode()) | st.binary(max_size=20)
_requests = st.tuples(
    st.sampled_from(["GET", "PUT", "DELETE", "OPTIONS", "HEAD", "POST"]),
    st.sampled_from(_PATHS),
    _words,
    # Who waits for a change of what nobody changes waits for minutes, unless told otherwise first.
    st.lists(_parameters, max_size=3).map(
        lambda given: "&".join([*(["wait=1ms"] if "index=1" in given else []), *given])
    ),
    _bodies,
)


@settings(max_examples=40)
@given(st.lists(_requests, min_size=5, max_size=25))
def test_whatever_is_asked_is_answered_and_no_mistake_of_ours(
    requests: list[tuple[str, str, str, str, bytes]],
) -> None:
    async def main() -> None:
        async with door() as caller, asyncio.timeout(60):
            for method, path, rest, query, body in requests:
                asked = f"/v1/{path}{rest if path.endswith('/') else ''}"
                status, told = await caller.ask(method, asked, query=query, body=body)
                assert 200 <= status < 600
                assert not told.startswith(b"internal error"), (method, asked, query, body)

    asyncio.run(main())


def test_a_body_nested_without_end_is_refused() -> None:
    async def main() -> None:
        async with door() as caller:
            for body in (b"[" * 100_000, b'{"Check":' * 100_000, b'{"Meta":{"a":1}}'):
                status, told = await caller.ask("PUT", "/v1/agent/service/register", body=body)
                assert status == 400, told

    asyncio.run(main())
