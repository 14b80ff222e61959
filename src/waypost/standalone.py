"""A whole registry in this process: one node and its doors.

``Standalone`` lives on the running event loop; ``start_thread`` gives it a loop and a thread of its
own, for programs that are not asyncio: the command line's ``serve``, an embedded registry, a test.
"""

import asyncio
import importlib
import logging
import threading
import time
from collections.abc import Callable, Collection, Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from waypost.errors import Rejected
from waypost.node.bootstrap import NodeConfig, open_node
from waypost.node.checks.allowed import Allowed
from waypost.node.checks.probing import Probes
from waypost.node.checks.runner import CheckRunner
from waypost.node.checks.scripts import Scripts
from waypost.node.node import KEYS_BYTES_MAX
from waypost.node.registry import Registry
from waypost.servers.native.server import NativeServer
from waypost.transport.port import NativePort

if TYPE_CHECKING:
    from waypost.servers.dns.server import DnsServer
    from waypost.servers.dns.settings import DnsSettings
    from waypost.servers.http.server import HttpServer
    from waypost.servers.web.mounted import Mounted
    from waypost.servers.xds.server import XdsServer

_T = TypeVar("_T")
log = logging.getLogger("waypost")

NATIVE_PORT: Final = 8300
HTTP_PORT: Final = 8500
DOORS: Final[tuple[str, ...]] = ("consul", "dns", "eureka", "prometheus")
"""What may be left out: every door but the native one and HTTP."""


class Standalone:
    """One node and its doors, on the running event loop."""

    def __init__(
        self,
        config: NodeConfig,
        *,
        host: str = "127.0.0.1",
        native_port: int = NATIVE_PORT,
        http_port: int | None = HTTP_PORT,
        dns_port: int | None = None,
        dns: "DnsSettings | None" = None,
        keys_bytes_max: int = KEYS_BYTES_MAX,
        xds_port: int | None = None,
        check_allow: Collection[str] | None = None,
        check_scripts: bool = False,
        without: Collection[str] = (),
        clock: Callable[[], int] = time.monotonic_ns,
        on_fatal: Callable[[BaseException], None] | None = None,
    ) -> None:
        self._config = config
        self._host = host
        self._native_port = native_port
        self._http_port = http_port
        self._dns_port = dns_port
        self._dns_settings = dns
        self._keys_bytes_max = keys_bytes_max
        self._xds_port = xds_port
        self._without = without
        self._check_allow = check_allow
        self._check_scripts = check_scripts
        self._clock = clock
        self._on_fatal = on_fatal or _log_fatal
        self.native: NativeServer | None = None
        self._http: HttpServer | None = None
        self._dns: DnsServer | None = None
        self._xds: XdsServer | None = None
        self.native_address = ""
        """Where the native door listens, as ``host:port``; known once started."""
        self.http_address = ""
        """Where the HTTP door listens, as ``host:port``; empty without one."""
        self.dns_address = ""
        """Where the DNS door listens, as ``host:port``; empty without one."""
        self.xds_address = ""
        """Where the xDS door listens, as ``host:port``; empty without one."""

    async def start(self) -> None:
        """Recover the data, then open the doors.  Raises ``OSError`` for a port that is taken.

        A node that has no cluster yet returns from here when it has found it.
        """
        self._import_doors()
        port = NativePort(self._host, self._native_port)
        self.native_address = _shown(await port.open())
        try:
            config = self._config
            if not config.address:
                config = msgspec.structs.replace(config, address=self.native_address)
            self.node = await open_node(
                config, port=port, clock=self._clock, on_fatal=self._on_fatal
            )
        except BaseException:
            port.close()
            raise
        self.node.keys_bytes_max = self._keys_bytes_max
        self.node.runs_scripts = self._check_scripts
        self.registry = Registry(self.node)
        scripts = Scripts() if self._check_scripts else None
        probes = Probes(Allowed(self._check_allow), scripts)
        self._checks = CheckRunner(self.node, probes, files=_files_max())
        self._checks.start()
        try:
            self.native = NativeServer(self.node, self.registry, self._host, self._native_port)
            await self.native.start(port)
            self.node.on_move = self.native.move_clients
            if self._http_port is not None:
                await self.open_http(self._http_port)
            if self._dns_port is not None and "dns" not in self._without:
                await self._open_dns(self._dns_port)
            if self._xds_port is not None:
                await self._open_xds(self._xds_port)
        except BaseException:
            await self.stop()
            raise

    def _import_doors(self) -> None:
        """Import what the doors need before anything runs: it takes long, and would stall a node.

        What is not installed is known before anything runs, too.
        """
        if self._xds_port is not None:
            _xds_door()
        modules: list[str] = []
        if self._dns_port is not None:
            modules.append("dns.server")
        if self._http_port is not None:
            modules += ["http.server", "consul.door", "eureka.door", "prometheus.door"]
        for module in modules:
            if module.partition(".")[0] not in self._without:
                importlib.import_module(f"waypost.servers.{module}")

    async def open_http(self, port: int) -> None:
        """Open the HTTP door, for those who did not ask for it at the start."""
        from waypost.servers.http.server import HttpServer

        self._http = HttpServer(self.registry, self._host, port, self._mounted())
        self.http_address = _shown(await self._http.start())

    async def _open_dns(self, port: int) -> None:
        from waypost.servers.dns.server import DnsServer

        self._dns = DnsServer(self.registry, self._host, port, self._dns_settings)
        self.dns_address = _shown(await self._dns.start())

    async def _open_xds(self, port: int) -> None:
        self._xds = _xds_door()(self.node, self.registry, self._host, port)
        self.xds_address = _shown(await self._xds.start())

    def _mounted(self) -> "dict[str, Mounted]":
        """The doors that share HTTP's port, by the first segment of their paths."""
        doors: dict[str, Mounted] = {}
        if "consul" not in self._without:
            from waypost.servers.consul.door import ConsulDoor

            doors["v1"] = ConsulDoor(self.registry, self.native_address)
        if "eureka" not in self._without:
            from waypost.servers.eureka.door import EurekaDoor

            doors["eureka"] = EurekaDoor(self.registry)
        if "prometheus" not in self._without:
            from waypost.servers.prometheus.door import PrometheusDoor

            doors["prometheus"] = PrometheusDoor(self.registry)
        return doors

    async def stop(self) -> None:
        """Let another node lead, close the doors, tell the clients to move, let go of the data."""
        await self.node.hand_over()
        if self._dns is not None:
            await self._dns.stop()
            self._dns = None
        if self._xds is not None:
            await self._xds.stop()
            self._xds = None
        if self._http is not None:
            await self._http.stop()
            self._http = None
        if self.native is not None:
            await self.native.stop()
            self.native = None
        await self._checks.stop()
        await self.node.stop()


class StandaloneThread:
    """A ``Standalone`` on a thread and an event loop of its own."""

    def __init__(self, config: NodeConfig, **options: object) -> None:
        self._config = config
        self._options = options
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event
        self.standalone: Standalone
        self._thread = threading.Thread(target=self._run, name="waypost-registry", daemon=True)

    def start(self) -> "StandaloneThread":
        """Start it; returns once its doors are open, or raises why they are not."""
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure
        return self

    def stop(self) -> None:
        """Stop it and wait until it has let go of everything.  Stopping twice does nothing."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join()

    def submit(self, work: Coroutine[Any, Any, _T]) -> "Future[_T]":
        """Run ``work`` on its event loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                runner.run(self._serve())
        except BaseException as error:  # noqa: BLE001 - it is the starter's to hear
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self.standalone = Standalone(self._config, **self._options)  # type: ignore[arg-type]
        await self.standalone.start()
        self._started.set()
        await self._stopping.wait()
        await self.standalone.stop()


def new_event_loop() -> asyncio.AbstractEventLoop:
    """The fastest event loop at hand."""
    try:
        import uvloop
    except ImportError:  # Windows
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def _xds_door() -> "type[XdsServer]":
    try:
        from waypost.servers.xds.server import XdsServer
    except ModuleNotFoundError as error:
        raise Rejected(
            f"xDS: {error.name} is not installed here: pip install 'waypost[xds]'"
        ) from None
    return XdsServer


def _shown(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _files_max() -> int:
    """How many files this process may open."""
    try:
        import resource
    except ImportError:  # Windows
        return 512
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft > 0 else 1 << 20


def _log_fatal(error: BaseException) -> None:
    log.critical("the registry in this process failed and answers no more: %s", error)
