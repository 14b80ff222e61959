"""``waypost register NAME --port P``: keep an instance registered for as long as this runs.

With a program behind ``--`` it stands in for that program: starts it, registers it once it
accepts connections, and on SIGTERM or SIGINT first drains it (so that nobody picks it any more),
then passes the signal on, and exits as the program does.  A second signal does not wait.

The program comes first: it is started although no registry answers (its registration follows
when one does), and it is left running when the registration is lost to a newer one.
"""

import asyncio
import contextlib
import signal
import sys
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from waypost.cli import exits
from waypost.cli.check_options import check_options, checks_of
from waypost.cli.options import duration, json_option, pair, server_option
from waypost.errors import Unavailable, WaypostError

if TYPE_CHECKING:
    from waypost.cli.program import Program
    from waypost.client.provider import Registration
    from waypost.client.registry import Registry

WAIT_FOR_PORT_S: Final = 10.0
RETRY_S: Final = 1.0
PROBE_S: Final = 1.0
_T = TypeVar("_T")


@click.command()
@click.argument("name")
@click.option("--port", type=int, required=True, help="What the service listens on.")
@click.option(
    "--host",
    help="What consumers connect to; by default this machine's address as the registry sees it.",
)
@click.option("--id", "instance_id", help="By default one is made up.")
@click.option("--weight", type=float, help="Share of the traffic relative to its siblings.")
@click.option("--tag", "tags", multiple=True, help="What consumers filter by; repeatable.")
@click.option(
    "--meta",
    type=pair,
    metavar="KEY=VALUE",
    multiple=True,
    help="Whatever else they should know; repeatable.",
)
@click.option("--zone", default="", help="Where it runs.")
@click.option("--version", default="", help="Which version of the service it is.")
@click.option(
    "--ttl",
    type=duration,
    default=10.0,
    show_default="10s",
    help="The lease: how long silence is tolerated.  0 registers it for good, and returns.",
)
@click.option(
    "--drain",
    "drain_s",
    type=duration,
    default=10.0,
    show_default="10s",
    help="How long to wait, before it ends, for consumers to notice.",
)
@check_options
@server_option
@json_option
@click.argument("command", nargs=-1, metavar="[-- CMD...]", type=click.UNPROCESSED)
def register(
    name: str,
    port: int,
    host: str | None,
    instance_id: str | None,
    weight: float | None,
    tags: tuple[str, ...],
    meta: tuple[tuple[str, str], ...],
    zone: str,
    version: str,
    ttl: float,
    drain_s: float,
    checks: tuple[str, ...],
    check_interval: float,
    check_timeout: float | None,
    server: str,
    as_json: bool,
    command: tuple[str, ...],
) -> int:
    """Register an instance, and keep it registered while this runs.

    Behind -- comes a program to run and stand in for: it is registered once its port accepts
    connections, drained before it is told to stop, and gone from the registry when it dies.

    \b
    Exit codes: 0 stopped and deregistered, 3 no registry answers, 4 refused, or another instance
    took the id over; with a program: the program's, or 128 + the signal that ended it,
    126 or 127 if it cannot be run.
    """
    from waypost.cli.asking import failed, tell_warnings

    details: dict[str, Any] = {
        "port": port,
        "host": host,
        "id": instance_id,
        "weight": weight,
        "tags": tags,
        "meta": dict(meta),
        "zone": zone,
        "version": version,
        "ttl": ttl,
        "checks": checks_of(checks, check_interval, check_timeout, port),
    }
    is_json = as_json or not (command or sys.stdout.isatty())
    provider = _Provider(name, details, command, server, drain_s=drain_s, is_json=is_json)
    tell_warnings()
    try:
        return asyncio.run(provider.run())
    except WaypostError as error:
        return failed(error, f"register {name!r}", server, as_json)


class _Provider:
    """One run of the command."""

    def __init__(
        self,
        name: str,
        details: dict[str, Any],
        command: tuple[str, ...],
        server: str,
        *,
        drain_s: float,
        is_json: bool,
    ) -> None:
        """``details`` are what ``Registry.register`` takes."""
        self._name = name
        self._details = details
        self._command = command
        self._server = server
        self._drain_s = drain_s
        self._is_json = is_json
        self._signals: asyncio.Queue[int] = asyncio.Queue()
        self._registration: Registration | None = None
        self._program: Program | None = None

    async def run(self) -> int:
        """Run until it is over; returns the exit code."""
        from waypost.client.connect import connect

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._signals.put_nowait, number)
        async with connect(self._server) as registry:
            # Said once for nothing: what is out of bounds is told before anything is started.
            registry.register(self._name, **self._details)
            if self._command and (code := await self._start()) is not None:
                return code
            try:
                return await self._run(registry)
            finally:
                if self._program is not None:
                    self._program.kill()

    async def _start(self) -> int | None:
        from waypost.cli import program
        from waypost.cli.asking import warn

        command = self._command
        env = {"WAYPOST": self._server, "WAYPOST_SERVICE": self._name}
        try:
            self._program = await program.start_program(command, env)
        except FileNotFoundError:
            warn(f"cannot run {command[0]!r}: there is no such command: check its name and $PATH")
            return program.NOT_FOUND
        except OSError as error:
            warn(f"cannot run {command[0]!r}: {(error.strerror or str(error)).lower()}")
            return program.NOT_EXECUTABLE
        return None

    async def _run(self, registry: "Registry") -> int:
        life = asyncio.create_task(self._live(registry))
        asked_to_end = asyncio.create_task(self._signals.get())
        while True:
            waiting: set[asyncio.Future[object]] = {asked_to_end}  # type: ignore[arg-type]
            if self._program is not None:
                waiting.add(self._program.ended)  # type: ignore[arg-type]
            if self._program is None or not life.done():
                waiting.add(life)  # type: ignore[arg-type]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if self._program is not None and self._program.ended.done():
                break
            if asked_to_end.done():
                await _cancelled(life)
                await self._wind_down(registry, asked_to_end.result())
                break
            if self._program is None:
                return life.result()  # for good, or refused
            if (error := life.exception()) is not None:
                self._warn_unregistered(error)
        asked_to_end.cancel()
        await _cancelled(life)
        if self._registration is not None:
            await self._registration.leave()
            self._say("deregistered", "Deregistered")
        return exits.OK if self._program is None else self._program.exit_code

    async def _live(self, registry: "Registry") -> int:
        """Register, and wait until that is over."""
        from waypost.cli.asking import tell_events

        if self._program is not None:
            await self._wait_for_port()
        registration = self._registration = await self._registered(registry)
        tell_events()
        instance = registration.instance
        where = f"Registered {instance.service}/{instance.id} at {instance.host}:{instance.port}"
        is_permanent = self._details["ttl"] == 0
        if is_permanent:
            self._say("registered", f"{where}, for good: only a deregistration removes it.")
        else:
            self._say("registered", f"{where}, for as long as this runs.")
        if is_permanent and self._program is None:
            self._registration = None  # it is meant to stay
            return exits.OK
        if (error := await registration.ended()) is not None:
            raise error
        return exits.OK

    async def _wait_for_port(self) -> None:
        from waypost.cli.asking import warn
        from waypost.cli.program import accepts

        host, port = self._details["host"] or "localhost", self._details["port"]
        if not await accepts(host, port, WAIT_FOR_PORT_S):
            warn(
                f"nothing accepts connections at {host}:{port} after {WAIT_FOR_PORT_S:g} s: "
                "registering it anyway; does the program listen there?"
            )

    async def _registered(self, registry: "Registry") -> "Registration":
        from waypost.cli.asking import warn

        has_warned = False
        while True:
            try:
                return await registry.register(self._name, **self._details)
            except Unavailable as error:
                if self._program is None:
                    raise
                if not has_warned:
                    warn(f"not registered yet, and trying on: {error}")
                    has_warned = True
            await asyncio.sleep(RETRY_S)

    async def _wind_down(self, registry: "Registry", number: int) -> None:
        """Drain, tell the program to end, and wait until it has."""
        impatience = asyncio.create_task(self._signals.get())
        if self._registration is not None:
            draining = asyncio.create_task(self._drain(registry, self._registration))
            await asyncio.wait({draining, impatience}, return_when=asyncio.FIRST_COMPLETED)
            await _cancelled(draining)
        if self._program is not None:
            self._program.send(impatience.result() if impatience.done() else number)
            if impatience.done():
                impatience = asyncio.create_task(self._signals.get())
            await asyncio.wait(
                {self._program.ended, impatience}, return_when=asyncio.FIRST_COMPLETED
            )
            self._program.kill()
            await self._program.ended
        impatience.cancel()

    async def _drain(self, registry: "Registry", registration: "Registration") -> None:
        from waypost.cli.asking import warn

        try:
            async with asyncio.timeout(PROBE_S):
                await registry.status()
            drained = await registration.drain(self._drain_s)
        except WaypostError as error:
            warn(f"not drained: {error}")
            return
        except TimeoutError:
            warn("not drained: the registry does not answer")
            return
        seen = drained.watchers - drained.unseen
        self._say("drained", f"Drained: seen by {seen} of {drained.watchers} watchers")

    def _warn_unregistered(self, error: BaseException) -> None:
        from waypost.cli.asking import warn

        if not isinstance(error, WaypostError):
            raise error
        warn(f"the program goes on, and is registered no more: {error}")
        self._registration = None

    def _say(self, event: str, text: str) -> None:
        from waypost.cli.output import print_json

        with contextlib.suppress(BrokenPipeError):  # that nobody reads it ends no registration
            if not self._is_json:
                to_whom = sys.stdout if self._program is None else sys.stderr
                print(text, file=to_whom, flush=True)
            else:
                import msgspec

                assert self._registration is not None
                instance = msgspec.structs.asdict(self._registration.instance)
                print_json({"event": event, **instance})


async def _cancelled(task: "asyncio.Task[_T]") -> None:
    """End a task, whatever it was doing; what it failed with has been dealt with."""
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        task.exception()
