"""The door: from a request to its operation, and back.

It answers all that comes under ``/v1/``; errors are plain text, as Consul's are.
"""

from typing import Final

from starlette.types import Receive, Scope, Send

from waypost.node.registry import Registry
from waypost.servers.consul.asked import Asked
from waypost.servers.consul.blocking import Waits
from waypost.servers.consul.operations import Call, Door, read_headers
from waypost.servers.consul.refusals import refused
from waypost.servers.consul.replies import JSON, Reply
from waypost.servers.consul.routes import Routes, allowed, chosen
from waypost.servers.consul.topics import service_index
from waypost.servers.web.requests import ClientGone, check_head, check_origin

PREFIX: Final = "/v1/"
_OF_SERVICES: Final = PREFIX + "health/service/"
_PLAIN: Final = {
    b"": False,
    b"passing": True,
    b"passing=": True,
    b"passing=1": True,
    b"passing=true": True,
}


class ConsulDoor:
    """The application of one node."""

    def __init__(self, registry: Registry, address: str) -> None:
        """``address``: of the node's native port."""
        self._door = Door(registry, address)
        self._routes = Routes()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        kept = self._kept(scope)
        if kept is not None:
            await _send(kept, send)
            return
        try:
            reply = await self._perform(scope, receive)
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001 - told in plain text, and logged
            reply = refused(error)
        await _send(reply, send)

    @property
    def waits(self) -> Waits:
        """Who waits here."""
        return self._door.waits

    def close(self) -> None:
        """Answer every blocking query now."""
        self._door.waits.close()

    def _kept(self, scope: Scope) -> Reply | None:
        """What is asked most: a known service, without further conditions."""
        path: str = scope["path"]
        if (
            scope["method"] != "GET"
            or not path.startswith(_OF_SERVICES)
            or (is_passing := _PLAIN.get(scope["query_string"])) is None
        ):
            return None
        registry, name = self._door.registry, path[len(_OF_SERVICES) :]
        if registry.catalog.service(name) is None:
            return None
        body = self._door.entries(name, is_passing=is_passing)
        return Reply(body, 200, JSON, read_headers(registry, service_index(registry.catalog, name)))

    async def _perform(self, scope: Scope, receive: Receive) -> Reply:
        check_head(scope)
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        methods, rest = self._routes.find(scope["path"].removeprefix(PREFIX))
        method: str = scope["method"]
        if method == "OPTIONS":
            return Reply(headers=[(b"allow", allowed(methods).encode())])
        perform = chosen(methods, method)
        if method != "GET":
            check_origin(headers)
        client = scope.get("client")
        call = Call(
            self._door,
            method,
            rest,
            Asked(scope["query_string"], headers),
            client[0] if client else "",
            receive,
        )
        return await perform(call)


async def _send(reply: Reply, send: Send) -> None:
    headers = [*reply.headers, (b"content-length", b"%d" % len(reply.body))]
    if reply.content_type:
        headers.append((b"content-type", reply.content_type))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    await send({"type": "http.response.body", "body": reply.body})
