"""``waypost serve``: a registry in this process, in the foreground, until it is told to stop.

The first SIGTERM or SIGINT stops it gracefully: clients are told to move, the log is closed, and
the exit code is 0.  The second ends it at once.  A disk that fails ends it at once too, with exit
code 70: what is on the disk is then known only by reading it again, which a restart does.
"""

import asyncio
import contextlib
import errno
import gc
import ipaddress
import json
import os
import signal
import socket
import sys
import traceback
from typing import TYPE_CHECKING, Any, Final

import click

from waypost.cli import exits
from waypost.cli.door_options import door_options
from waypost.cli.etcd_options import etcd_options
from waypost.errors import WaypostError

if TYPE_CHECKING:
    from waypost.node.etcd.settings import EtcdSettings
    from waypost.standalone import Standalone

NATIVE_PORT: Final = 8300
HTTP_PORT: Final = 8500
LOOPBACK: Final = "127.0.0.1"
STOP_S_MAX: Final = 15.0

# What a registry holds lives long and has no cycles, so looking through it for garbage is work
# that finds nothing, and it grows with what is held: at a million instances a full collection
# stops the event loop for seconds.  What was recovered is frozen (no collection looks at it
# again); the young generations are collected as ever, in batches, and the oldest, where cycles of
# closed connections may end up, rarely.
_GC_YOUNG: Final = 10_000
_GC_MIDDLE: Final = 20
_GC_OLD: Final = 1_000


@click.command()
@click.option("--name", default="local", metavar="NODE", help="The name of this node.")
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False),
    metavar="DIR",
    help="Keep everything here: an acknowledged write survives any crash.",
)
@click.option("--memory", is_flag=True, help="Keep everything in memory: the default.")
@click.option(
    "--host", default=LOOPBACK, show_default=True, help="The address to listen on, for all doors."
)
@click.option(
    "--port",
    "--native-port",
    "native_port",
    type=click.IntRange(0, 65_535),
    default=NATIVE_PORT,
    show_default=True,
    help="The native protocol; 0 takes a free port.",
)
@click.option(
    "--http-port",
    type=click.IntRange(0, 65_535),
    default=HTTP_PORT,
    show_default=True,
    help="HTTP; 0 takes a free port.",
)
@click.option(
    "--insecure",
    is_flag=True,
    help="Listen beyond this machine although nobody has to prove who he is.",
)
@click.option(
    "--cluster",
    "line",
    metavar="A=H:P,B=H:P,C=H:P",
    help="Found a cluster with these machines; --name says which of them this is.",
)
@click.option(
    "--join",
    "seeds",
    metavar="H:P[,H:P]",
    help="Join the cluster of the node there; a node of its own becomes a cluster by it.",
)
@click.option("--learner", is_flag=True, help="With --join: follow, without a vote.")
@click.option(
    "--engine",
    type=click.Choice(["raft", "paxos"]),
    default="raft",
    show_default=True,
    help="How the cluster that --cluster founds agrees.",
)
@click.option(
    "--advertise",
    default="",
    metavar="H:P",
    help="Where the other nodes and the clients reach this one, if not where it listens.",
)
@door_options
@etcd_options
@click.option(
    "--accept-data-loss",
    is_flag=True,
    help="Start from a damaged log or a restored etcd, without what cannot be read.",
)
@click.option("-v", "--verbose", count=True, help="Log more.")
@click.option("-q", "--quiet", count=True, help="Log only what is wrong.")
def serve(
    name: str,
    data_dir: str | None,
    memory: bool,
    host: str,
    native_port: int,
    http_port: int,
    insecure: bool,
    line: str | None,
    seeds: str | None,
    learner: bool,
    engine: str,
    advertise: str,
    doors: dict[str, Any],
    etcd: "EtcdSettings | None",
    accept_data_loss: bool,
    verbose: int,
    quiet: int,
) -> int:
    """Run a registry.

    Without arguments: on this machine only, in memory, at 127.0.0.1:8300 (native),
    127.0.0.1:8500 (HTTP) and 127.0.0.1:8600 (DNS).  When the output is not a terminal, it is one
    line of JSON, once the registry is ready.

    \b
    Exit codes: 0 stopped, 64 wrong command line, 65 damaged data, 70 the disk failed or
    a bug was met, 71 the address cannot be listened on.
    """
    if memory and data_dir:
        raise click.UsageError("--memory and --data-dir exclude each other: leave one out")
    access = etcd
    if etcd and not etcd.endpoints:
        etcd = None
    if accept_data_loss and not data_dir and not etcd:
        raise click.UsageError("--accept-data-loss is about a --data-dir: name it")
    if etcd:
        _refuse_beside_etcd(data_dir or memory or line or seeds)
    _refuse_exposure(host, insecure)
    machines = _machines(line, name)
    if machines:
        own_host, own_port = _address(machines[name], "--cluster")
        advertise = advertise or machines[name]
        if not _is_given("native_port"):
            native_port = own_port
        if not _is_given("host") and _is_loopback(own_host):
            host = own_host
    if (line or seeds) and not data_dir:
        raise click.UsageError("a member of a cluster keeps its promises on disk: add --data-dir")
    if line and seeds:
        raise click.UsageError("--cluster founds a cluster, --join enters one: leave one out")
    from waypost.cli.serve_log import log_to_stderr
    from waypost.node.bootstrap import NodeConfig
    from waypost.node.etcd.settings import EtcdSettings
    from waypost.standalone import Standalone, new_event_loop

    log_to_stderr(verbose - quiet)
    config = NodeConfig(
        name=name,
        data_dir=data_dir or "",
        accept_data_loss=accept_data_loss,
        address=_advertised(advertise, host, native_port),
        line=machines,
        seeds=tuple(seeds.split(",")) if seeds else (),
        follows_only=learner,
        engine=engine,
        etcd=etcd,
        etcd_access=access or EtcdSettings(endpoints=()),
    )
    doors |= {"native_port": native_port, "http_port": http_port}
    standalone = Standalone(config, host=host, on_fatal=_die, **doors)
    gc.disable()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        try:
            return runner.run(_run(standalone, data_dir or ""))
        except OSError as error:
            print(f"waypost: {_why_not(error, host, doors)}", file=sys.stderr)
            return exits.CANNOT_LISTEN


def _refuse_beside_etcd(others: object) -> None:
    if others:
        raise click.UsageError(
            "with --etcd everything is in etcd: leave out --data-dir, --memory, --cluster, --join"
        )
    if not _is_given("name"):
        raise click.UsageError("each node over etcd needs a name of its own: add --name")


async def _run(standalone: "Standalone", data_dir: str) -> int:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop(number: int) -> None:
        if stopping.is_set():
            os._exit(128 + number)
        stopping.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    await standalone.start()
    tune_gc()
    _say_ready(standalone, data_dir)
    await stopping.wait()
    try:
        async with asyncio.timeout(STOP_S_MAX):
            await standalone.stop()
    except TimeoutError:
        print(f"waypost: not stopped within {STOP_S_MAX:g} s: ending at once", file=sys.stderr)
        os._exit(1)
    return exits.OK


def tune_gc() -> None:
    """Set the collector up for a process whose data lives long and has no cycles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_GC_YOUNG, _GC_MIDDLE, _GC_OLD)
    gc.enable()


def _say_ready(standalone: "Standalone", data_dir: str) -> None:
    status = standalone.registry.status()
    if not sys.stdout.isatty():
        ready = {
            "event": "ready",
            "native": standalone.native_address,
            "http": standalone.http_address,
            "dns": standalone.dns_address,
            **({"xds": standalone.xds_address} if standalone.xds_address else {}),
            "node": status.node,
            "engine": status.engine,
            "durable": status.durable,
            "cluster": status.cluster,
            "data_dir": data_dir,
            "pid": os.getpid(),
        }
        with contextlib.suppress(BrokenPipeError):  # nobody wants to know
            print(json.dumps(ready), flush=True)
        return
    native = standalone.native_address
    server = "" if native == f"{LOOPBACK}:{NATIVE_PORT}" else f" --server {native}"
    dns = standalone.dns_address and f", {standalone.dns_address} (DNS)"
    xds = standalone.xds_address and f", {standalone.xds_address} (xDS)"
    keeps = (
        f"on disk in {data_dir}: an acknowledged write survives a crash"
        if status.durable
        else "in memory: nothing survives a restart; --data-dir keeps it"
    )
    print(
        f"Waypost is ready: {native} (native), http://{standalone.http_address} (HTTP)"
        f"{dns}{xds}\n"
        f"{keeps}\n"
        "\nIn other terminals:\n"
        f"  waypost register web --port 8000{server} -- python3 -m http.server 8000\n"
        f"  waypost resolve web{server}\n"
        f"  waypost watch web{server}\n"
        "\nCtrl-C stops it.",
        flush=True,
    )


def _is_given(option: str) -> bool:
    """Whether the command line names it: a default gives way to what ``--cluster`` says."""
    context = click.get_current_context()
    return context.get_parameter_source(option) is not click.core.ParameterSource.DEFAULT


def _machines(line: str | None, name: str) -> dict[str, str]:
    """Read ``a=H:P,b=H:P``."""
    machines: dict[str, str] = {}
    for item in (line or "").split(",") if line else ():
        who, _, address = item.strip().partition("=")
        _address(address, "--cluster")
        if who in machines:
            raise click.UsageError(f"--cluster names {who!r} twice")
        machines[who] = address
    if machines and name not in machines:
        raise click.UsageError(
            f"--cluster does not name this node: --name is {name!r}, and it names "
            f"{', '.join(machines)}"
        )
    return machines


def _address(address: str, option: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise click.UsageError(
            f"{option}: {address!r} is not an address: give host and port, as in 10.0.0.1:8300"
        )
    return host.strip("[]"), int(port)


def _advertised(advertise: str, host: str, port: int) -> str:
    """Where others reach this node; empty for where it turns out to listen."""
    if advertise:
        _address(advertise, "--advertise")
        return advertise
    if host in ("0.0.0.0", "::"):
        return f"{socket.gethostname()}:{port}" if port else ""
    return ""


def _refuse_exposure(host: str, insecure: bool) -> None:
    if insecure or _is_loopback(host):
        return
    raise click.UsageError(
        f"--host {host} lets everybody who can reach this machine change what is registered: "
        "TLS and tokens are not there yet; add --insecure if you trust the whole network"
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _why_not(error: OSError, host: str, doors: dict[str, Any]) -> str:
    """One line on what the system refused."""
    if error.filename is not None:
        return f"cannot use {error.filename}: {_words(error)}: name another --data-dir"
    if error.errno == errno.EADDRINUSE:
        for option in ("--port", "--http-port", "--dns-port", "--xds-port"):
            port = doors["native_port" if option == "--port" else option[2:].replace("-", "_")]
            if port and _is_busy(host, port, with_udp=option == "--dns-port"):
                from waypost.cli.port_holder import find_holder

                holder = find_holder(port)
                return (
                    f"cannot listen on {host}:{port}: it is taken by "
                    f"{holder or 'another process'}: stop that, or choose another with {option} "
                    f"({option} 0 takes a free one)"
                )
    if error.errno == errno.EADDRNOTAVAIL:
        return f"cannot listen on {host}: it is not an address of this machine"
    if isinstance(error, PermissionError):
        return f"cannot listen on {host}: {_words(error)}: ports below 1024 need privileges"
    return f"cannot listen on {host}: {_words(error)}"


def _words(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _is_busy(host: str, port: int, *, with_udp: bool) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)[: 1 + with_udp]:
        with socket.socket(family, kind) as trial:
            if kind == socket.SOCK_STREAM:
                trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((host, port))
            except OSError as error:
                return error.errno == errno.EADDRINUSE
    return False


def _die(error: BaseException) -> None:
    """End this process at once, whatever else it is doing: the log cannot be relied on."""
    from waypost.cli.serve_log import write_now

    if isinstance(error, WaypostError):  # not the disk, and it says what to do
        write_now(f"waypost: the registry ends: {error}")
        os._exit(exits.exit_code_of(error))
    if isinstance(error, OSError):
        write_now(f"waypost: the registry ends: {error}: mend the disk, and start it again")
        os._exit(exits.DISK_FAILED)
    for line in traceback.format_exception(error):
        write_now(line.rstrip("\n"))
    write_now(
        "waypost: the registry ends, because it broke a rule of its own: start it again, it goes "
        "on from what is on its disk; this is a bug: report it with the lines above"
    )
    os._exit(exits.BROKEN)
