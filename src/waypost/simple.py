"""The front page: three plain, blocking classes.

    registry = ServiceRegistry()
    ServiceProvider("orders", "http://127.0.0.1:9001", registry).start()

and, in another process,

    consumer = ServiceConsumer()
    url = consumer.get_service_url("orders")
    print(consumer.call_service(url).text)

A service is a name and a provider is a URL; everything else is decided by defaults.  All three may
be used by any number of threads.  Whoever needs more (health, drains, watches, asyncio) uses
``waypost.connect``, which this stands on.
"""

import atexit
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import urlsplit

from waypost.balance import DEFAULT_POLICY, Endpoint
from waypost.client.blocking import BlockingRegistration
from waypost.client.blocking_views import BlockingService
from waypost.client.check import Check
from waypost.client.connect import TIMEOUT_S, connect
from waypost.client.service import Service, went_well
from waypost.errors import Invalid, NoInstance, UnknownInstance, UnknownService
from waypost.model import Instance, check_host, check_service

if TYPE_CHECKING:
    import httpx2

    from waypost.standalone import StandaloneThread

PORTS: Final = {"http": 80, "https": 443}
CHOSEN_MAX: Final = 4096
SCHEME: Final = "scheme"
PATH: Final = "path"
"""Keys in an instance's meta for what host and port do not say."""


class ServiceRegistry:
    """A registry: who provides what, and where."""

    def __init__(
        self,
        address: str | None = None,
        *,
        embedded: bool = False,
        timeout: float = TIMEOUT_S,
    ) -> None:
        """Talk to the registry at ``address``, by default at ``$WAYPOST`` or 127.0.0.1:8300.

        With ``embedded`` it runs in this process, in memory, for as long as this object is open;
        give its ``address`` to the other processes.  ``timeout`` is for how many seconds a call may
        wait for the registry before it raises ``Unavailable``.
        """
        self._embedded: StandaloneThread | None = None
        self.address = address or ""
        """Where the registry is; empty for the default."""
        if embedded:
            if address is not None:
                raise Invalid(
                    "address: an embedded registry has an address of its own: leave it out, or "
                    "leave out embedded",
                    field="address",
                )
            self._embedded = _start_embedded()
            self.address = self._embedded.standalone.native_address
            atexit.register(self.close)
        # What an embedded registry knows ends with it: nothing of it is worth keeping on disk.
        self._client = connect(
            self.address or None, timeout=timeout, cache_dir=None if embedded else "auto"
        ).blocking()
        self._views: dict[tuple[str, str], BlockingService] = {}
        self._registered: dict[tuple[str, str], BlockingRegistration] = {}
        self._lock = threading.Lock()

    def register(
        self,
        name: str,
        url: str,
        *,
        weight: float | None = None,
        zone: str = "",
        version: str = "",
        tags: Sequence[str] = (),
        meta: Mapping[str, str] | None = None,
        checks: Sequence[Check] | None = None,
    ) -> None:
        """Say that ``url`` provides the service, and keep saying so until ``deregister``.

        It is forgotten when this process ends, however it ends.  Saying it twice changes nothing.
        """
        scheme, host, port, path = _taken_apart(url)
        with self._lock:
            if (name, url) in self._registered:
                return
        registration = self._client.register(
            name,
            host=host,
            port=port,
            weight=weight,
            zone=zone,
            version=version,
            tags=tags,
            meta={**(meta or {}), SCHEME: scheme, **({PATH: path} if path else {})},
            checks=checks,
        )
        with self._lock:
            twin = self._registered.setdefault((name, url), registration)
        if twin is not registration:  # two threads at once
            registration.deregister()

    def deregister(self, name: str, url: str) -> None:
        """Say that ``url`` no longer provides the service, whoever registered it."""
        wanted = _taken_apart(url)
        with self._lock:
            registration = self._registered.pop((name, url), None)
        if registration is not None:
            registration.deregister()
            return
        for instance in self._client.resolve(name, health="any").instances:
            if _taken_apart(url_of(instance)) == wanted:
                with suppress(UnknownInstance, UnknownService):  # it went by itself meanwhile
                    self._client.deregister(name, instance.id)

    def get_service(self, name: str, policy: str = DEFAULT_POLICY) -> str | None:
        """Choose one of the URLs that provide the service, or None if there is none.

        ``policy``: ``least_response_time``, ``random``, ``round_robin`` or ``weighted``.
        """
        try:
            return url_of(self.view(name, policy).pick())
        except NoInstance:
            return None

    def get_services(self, name: str) -> list[str]:
        """List the URLs that provide the service and may be called now."""
        return list(dict.fromkeys(map(url_of, self.view(name).instances)))

    def view(self, name: str, policy: str = DEFAULT_POLICY) -> BlockingService:
        """Give the live view of a service that the answers come from."""
        with self._lock:
            view = self._views.get((name, policy))
            if view is None:
                view = self._views[name, policy] = self._client.service(name, policy)
        return view

    def close(self) -> None:
        """Deregister what this object registered, and disconnect.  Closing twice does nothing."""
        self._client.close()
        self._registered.clear()
        if self._embedded is not None:
            atexit.unregister(self.close)
            self._embedded.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class ServiceProvider:
    """One provider of a service, known to the registry from ``start`` to ``stop``."""

    def __init__(
        self,
        name: str,
        url: str,
        registry: ServiceRegistry | None = None,
        *,
        weight: float | None = None,
        zone: str = "",
        version: str = "",
        tags: Sequence[str] = (),
        meta: Mapping[str, str] | None = None,
        checks: Sequence[Check] | None = None,
    ) -> None:
        """Provide the service ``name`` at ``url``; without a registry, at the default one."""
        check_service(name)
        _taken_apart(url)
        self.name = name
        self.url = url
        self._given = registry
        self._registry: ServiceRegistry | None = None
        self._details: dict[str, Any] = {
            "weight": weight,
            "zone": zone,
            "version": version,
            "tags": tags,
            "meta": meta,
            "checks": checks,
        }

    def start(self) -> Self:
        """Register, and stay registered until ``stop`` or the end of this process.

        Raises ``Unavailable`` if no registry can be reached.
        """
        if self._registry is None:
            registry = self._given or ServiceRegistry()
            try:
                registry.register(self.name, self.url, **self._details)
            except BaseException:
                self._let_go(registry)
                raise
            self._registry = registry
        return self

    def stop(self) -> None:
        """Deregister.  Stopping twice does nothing."""
        registry, self._registry = self._registry, None
        if registry is not None:
            try:
                registry.deregister(self.name, self.url)
            finally:
                self._let_go(registry)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _let_go(self, registry: ServiceRegistry) -> None:
        if registry is not self._given:
            registry.close()


class ServiceConsumer:
    """Finds providers and calls them, preferring those that answer fast."""

    def __init__(
        self, registry: ServiceRegistry | None = None, *, policy: str = DEFAULT_POLICY
    ) -> None:
        """Ask ``registry``, or the default one."""
        self._given = registry
        self._registry = registry or ServiceRegistry()
        self._policy = policy
        self._chosen: dict[str, tuple[Service, Endpoint]] = {}
        """By origin: what ``call_service`` was told to call, and whom that teaches something."""
        self._client: httpx2.Client | None = None
        self._lock = threading.Lock()

    def get_service_url(self, name: str) -> str:
        """Choose one of the URLs that provide the service.

        Raises ``NoInstance``, which says why, if there is none that may be called;
        ``Unavailable`` if no registry can be reached and nothing is known from before.
        """
        service, endpoint = self._registry.view(name, self._policy).choose()
        url = url_of(endpoint.instance)
        with self._lock:
            self._chosen.pop(_origin(url), None)
            self._chosen[_origin(url)] = service, endpoint
            if len(self._chosen) > CHOSEN_MAX:
                del self._chosen[next(iter(self._chosen))]
        return url

    def call_service(self, url: str, method: str = "GET", **options: Any) -> "httpx2.Response":
        """Make an HTTP request, and learn from how it goes for the next choice.

        ``url`` is what ``get_service_url`` returned, or one below it; ``options`` are those of
        ``httpx2.request`` (``json=``, ``params=``, ``headers=``, ``timeout=``...).  Returns the
        response whatever its status; raises ``httpx2.HTTPError`` if there is none.
        """
        chosen = self._chosen.get(_origin(url))
        if chosen is None:
            return self._http().request(method, url, **options)
        service, endpoint = chosen
        begun = service.begin(endpoint)
        ok: bool | None = None
        try:
            response = self._http().request(method, url, **options)
            ok = not response.is_server_error  # 5xx is the provider's failure, 4xx the caller's
        except BaseException as error:
            ok = went_well(error)
            raise
        finally:
            service.end(begun, ok)
        return response

    def close(self) -> None:
        """Close the connections to the providers.  Closing twice does nothing."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()
        if self._given is None:
            self._registry.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _http(self) -> "httpx2.Client":
        import httpx2

        with self._lock:
            if self._client is None:
                self._client = httpx2.Client()
            return self._client


def url_of(instance: Instance) -> str:
    """Put an instance's URL together; http, if its provider said nothing else."""
    scheme = instance.meta.get(SCHEME, "http")
    host = f"[{instance.host}]" if ":" in instance.host else instance.host
    port = "" if PORTS.get(scheme) == instance.port else f":{instance.port}"
    return f"{scheme}://{host}{port}{instance.meta.get(PATH, '')}"


def _taken_apart(url: str) -> tuple[str, str, int, str]:
    """Take scheme, host, port and path from a URL, or raise ``Invalid``."""
    try:
        parts = urlsplit(url)
        port = parts.port or PORTS.get(parts.scheme)
    except ValueError as error:
        raise _invalid(url, str(error)) from error
    if not parts.scheme or not parts.hostname:
        raise _invalid(url, "it has no scheme or no host")
    if port is None:
        raise _invalid(url, f"{parts.scheme} has no port of its own")
    if parts.username is not None or parts.query or parts.fragment:
        raise _invalid(url, "a user, a query or a fragment is not part of where a service is")
    check_host(parts.hostname)
    return parts.scheme, parts.hostname, port, parts.path


def _invalid(url: str, what: str) -> Invalid:
    return Invalid(f"url: {url!r}: {what}: write it as 'http://host:port/path'", field="url")


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _start_embedded() -> "StandaloneThread":
    from waypost.node.bootstrap import NodeConfig
    from waypost.standalone import StandaloneThread

    return StandaloneThread(NodeConfig(), native_port=0, http_port=None).start()
