"""A source of resources without a registry, and clients that keep what they are told."""

from collections import deque

from waypost.servers.xds.delta import DeltaRequest, DeltaStream
from waypost.servers.xds.kinds import CDS, EDS, LDS, RDS, TOLD_WHOLE, Kind
from waypost.servers.xds.names import name_of, service_of
from waypost.servers.xds.resources import Resource
from waypost.servers.xds.sotw import SotwRequest, SotwStream
from waypost.servers.xds.subscription import Response

KINDS = (LDS, RDS, CDS, EDS)


class World:
    """Services that exist, each with a version of its endpoints."""

    def __init__(self, *services: str) -> None:
        self.services = dict.fromkeys(services, 1)
        self.size = 1

    def find(self, kind: Kind, name: str) -> Resource | None:
        service = service_of(name)
        if not service:
            return None
        version = f"v{self.services.get(service, 0)}" if kind == EDS else "only"
        return Resource(name, version, b"x" * self.size)

    def lists(self, name: str) -> bool:
        return name in self.names()

    def names(self) -> list[str]:
        return [name_of(service) for service in self.services]


class Client:
    """One who takes in every response, and tells by ``have`` what came of it."""

    def __init__(self, world: World, stream: SotwStream | DeltaStream) -> None:
        self.world = world
        self.stream = stream
        self.names: dict[Kind, dict[str, None]] = {}
        self.have: dict[Kind, dict[str, str]] = {kind: {} for kind in KINDS}
        self.nonces: dict[Kind, str] = {}
        self.is_wild = False
        self.responses: deque[Response] = deque()
        self.requests: deque[SotwRequest | DeltaRequest] = deque()
        self.log: list[tuple[Kind, list[str], list[str]]] = []

    def ask(
        self, kind: Kind, *more: str, less: tuple[str, ...] = (), wildcard: bool = False
    ) -> None:
        """Change what is wanted."""
        names = self.names.setdefault(kind, {})
        names.update(dict.fromkeys(more))
        for name in less:
            names.pop(name, None)
        if kind == CDS and (wildcard or not (more or less)):
            self.is_wild = True
        for name in less:
            if isinstance(self.stream, DeltaStream) or not self.wants(kind, name):
                self.have[kind].pop(name, None)
        nonce = self.nonces.get(kind, "")
        if isinstance(self.stream, DeltaStream):
            asked = (*more, "*") if wildcard else more
            self.requests.append(DeltaRequest(kind, asked, less))  # says nothing of a response
        else:
            if wildcard:
                names["*"] = None
            self.requests.append(SotwRequest(kind, tuple(names), nonce))

    def answer(self, response: Response, error: str | None = None) -> None:
        """Take it, or refuse it."""
        kind = response.kind
        self.nonces[kind] = response.nonce
        if isinstance(self.stream, DeltaStream):
            self.requests.append(DeltaRequest(kind, nonce=response.nonce, error=error))
        else:
            names = tuple(self.names.get(kind, ()))
            self.requests.append(SotwRequest(kind, names, response.nonce, error=error))

    def hear(self) -> Response:
        """Take in the next response."""
        response = self.responses.popleft()
        self.log.append(
            (response.kind, [r.name for r in response.resources], list(response.removed))
        )
        told = {resource.name: resource.version for resource in response.resources}
        have = self.have[response.kind]
        if isinstance(self.stream, SotwStream) and response.kind in TOLD_WHOLE:
            have.clear()
        have.update(
            {name: version for name, version in told.items() if self.wants(response.kind, name)}
        )
        for name in response.removed:
            have.pop(name, None)
        self.answer(response)
        return response

    def wants(self, kind: Kind, name: str) -> bool:
        is_listed = self.is_wild and kind == CDS and name == name_of(service_of(name))
        return is_listed or name in self.names.get(kind, {})

    def serve(self) -> None:
        """The server takes in the next request, and sends what is due."""
        request = self.requests.popleft()
        if isinstance(self.stream, SotwStream):
            assert isinstance(request, SotwRequest)
            self.stream.receive(request)
        else:
            assert isinstance(request, DeltaRequest)
            self.stream.receive(request)
        self.push()

    def push(self) -> None:
        """The server sends what is due."""
        while (response := self.stream.take()) is not None:
            self.responses.append(response)

    def settle(self) -> list[tuple[Kind, list[str], list[str]]]:
        """Until nobody has anything to say; returns what was said meanwhile."""
        del self.log[:]
        self.push()
        while self.requests or self.responses:
            if self.requests:
                self.serve()
            if self.responses:
                self.hear()
        return list(self.log)

    def change(self, service: str, version: int) -> None:
        """It gets another version, or with 0 it goes."""
        if version:
            self.world.services[service] = version
        else:
            self.world.services.pop(service, None)
        self.stream.touch([service])
