"""Requests made up from ``/openapi.json``, valid and not: no crash, and answers as described."""

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import hypothesis
import msgspec
import pytest
import schemathesis
from tests.servers.http.world import world

from waypost.servers.http.openapi import document
from waypost.servers.http.routes import OPERATIONS

CHECK = "/api/v1/services/{service}/instances/{id}/checks/{check}"


def described() -> dict[str, Any]:
    """Tell all that the description does, but of checks.

    What the target of which kind is, a schema of flat fields does not say: see test_checks.
    """
    told: dict[str, Any] = msgspec.json.decode(document(OPERATIONS))
    for body in ("Registration", "RegisterItem"):
        del told["components"]["schemas"][body]["properties"]["checks"]
    return told


# An event stream has no end, so nothing here would ever have read it.
SCHEMA = (
    schemathesis.openapi.from_dict(described())
    .exclude(path="/api/v1/watch")
    .exclude(path=CHECK, method="PUT")
)
SCHEMA.config.generation.update(modes=list(schemathesis.GenerationMode))


@SCHEMA.hook
def map_body(context: schemathesis.HookContext, body: object) -> object:
    """Make valid what JSON Schema has no words to rule out.

    1.0 is a whole number to it, and ``str.isprintable`` nothing that a pattern could say.
    """
    match body:
        case str():
            return "".join(c if c.isprintable() or c < "\xa1" else "x" for c in body)
        case float() if body.is_integer():
            return int(body)
        case dict():
            return {map_body(context, key): map_body(context, value) for key, value in body.items()}
        case list():
            return [map_body(context, value) for value in body]
        case _:
            return body


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """A server on a loop and a thread of its own: the requests below are blocking ones."""
    started = threading.Event()
    found: list[str] = []
    loop = asyncio.new_event_loop()
    stopping = asyncio.Event()

    async def serve() -> None:
        async with world() as there:
            found.append(f"http://{there.host}:{there.port}")
            started.set()
            await stopping.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    assert started.wait(10)
    yield found[0]
    loop.call_soon_threadsafe(stopping.set)
    thread.join()
    loop.close()


@SCHEMA.parametrize()
@hypothesis.settings(
    max_examples=40,
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)
def test_every_answer_is_as_described(case: schemathesis.Case, base_url: str) -> None:
    case.call_and_validate(base_url=base_url)
