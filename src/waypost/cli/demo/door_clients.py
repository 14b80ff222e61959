"""The consumers of the demo of all doors: what everybody uses, as everybody uses it.

    python -m waypost.cli.demo.door_clients CLIENT ADDRESS SERVICE

Each is a program of its own.  It says whom of the service its client would call, as ``host:port``
or by name, a line of JSON each time that this changes, and ends when its standard input does.
Nothing but the Python client's part knows of Waypost: the others are unmodified clients from PyPI,
with the intervals set short that they let their users set.
"""

import asyncio
import contextlib
import importlib
import json
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

import waypost

LOOK_EVERY_S: Final = 0.005
"""How often to look at what a client has in memory."""
ASK_EVERY_S: Final = 0.1
"""How often clients ask that know no better way."""
EUREKA_S: Final = 1
"""The least that py-eureka-client takes: whole seconds."""
CALL_EVERY_S: Final = 0.005
CALLS: Final = 12
"""Who answers none of so many calls in a row is not called any more: a round robin of three."""
PATIENCE_S: Final = 5.0
WHO: Final = "/demo.Who/Name"

Sees = Iterator[set[str]]


def native(address: str, service: str) -> Sees:
    """Waypost's own client."""
    with waypost.connect(address, cache_dir=None) as registry:
        view = registry.service(service)
        while True:
            yield {f"{each.host}:{each.port}" for each in view.instances}
            time.sleep(LOOK_EVERY_S)


def http(address: str, service: str) -> Sees:
    """Any program that can GET."""
    for answer in _got(f"http://{address}/api/v1/services/{service}"):
        yield {f"{each['host']}:{each['port']}" for each in answer.get("instances", ())}


def http_sd(address: str, service: str) -> Sees:
    """What Prometheus asks, as often as anybody likes."""
    for answer in _got(f"http://{address}/prometheus/sd?service={service}&health=resolvable"):
        yield {target for group in answer for target in group["targets"]}


def dns(address: str, service: str) -> Sees:
    """dnspython."""
    resolving: Any = importlib.import_module("dns.resolver")
    nothing: Any = importlib.import_module("dns.exception").DNSException
    resolver = resolving.Resolver(configure=False)
    resolver.nameservers, resolver.port = [address.rpartition(":")[0]], _port(address)
    while True:
        found: set[str] = set()
        with contextlib.suppress(nothing):
            for record in resolver.resolve(f"{service}.service.waypost", "SRV"):
                for host in resolver.resolve(record.target, "A"):
                    found.add(f"{host}:{record.port}")
        yield found
        time.sleep(ASK_EVERY_S)


def consul(address: str, service: str) -> Sees:
    """py-consul, by blocking queries."""
    library: Any = importlib.import_module("consul")
    client = library.Consul(host=address.rpartition(":")[0], port=_port(address))
    index = None
    while True:
        index, found = client.health.service(service, passing=True, index=index, wait="10s")
        yield {f"{each['Service']['Address']}:{each['Service']['Port']}" for each in found}


def eureka(address: str, service: str) -> Sees:
    """py-eureka-client, which asks with each heartbeat."""
    library: Any = importlib.import_module("py_eureka_client.eureka_client")
    client = library.EurekaClient(
        eureka_server=f"http://{address}/eureka",
        should_register=False,
        renewal_interval_in_secs=EUREKA_S,
    )
    asyncio.run(client.start())
    while True:
        found = client.applications.get_application(service).up_instances
        yield {f"{each.ipAddr}:{each.port.port}" for each in found}
        time.sleep(LOOK_EVERY_S)


def xds(address: str, service: str) -> Sees:
    """Proxyless gRPC: who answers when ``xds:///NAME`` is called, again and again."""
    from waypost.cli.xds_bootstrap import bootstrap_of

    os.environ["GRPC_XDS_BOOTSTRAP_CONFIG"] = json.dumps(bootstrap_of(address))
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    library: Any = importlib.import_module("grpc")
    answered: deque[str] = deque(maxlen=CALLS)
    with library.insecure_channel(f"xds:///{service}") as channel:
        call = channel.unary_unary(WHO)
        while True:
            try:
                answered.append(call(b"", timeout=PATIENCE_S).decode())
            except library.RpcError:
                answered.append("")
            yield set(answered) - {""}
            time.sleep(CALL_EVERY_S)


CLIENTS: Final[dict[str, Callable[[str, str], Sees]]] = {
    each.__name__: each for each in (native, http, dns, consul, eureka, http_sd, xds)
}


def main(name: str, address: str, service: str) -> None:
    """Tell what one of them sees, until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started it
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    tell = own_stdout()
    before: set[str] | None = None
    for sees in CLIENTS[name](address, service):
        if sees != before:
            tell({"sees": sorted(sees)})
            before = sees


def own_stdout() -> Callable[[dict[str, Any]], None]:
    """A way to say something to who started this: libraries that log there do not get between."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def tell(what: dict[str, Any]) -> None:
        print(json.dumps(what), file=out, flush=True)

    return tell


def _got(url: str) -> Iterator[Any]:
    import httpx2

    with httpx2.Client(timeout=PATIENCE_S) as client:
        while True:
            answer = client.get(url)
            yield answer.json() if answer.is_success else {}
            time.sleep(ASK_EVERY_S)


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])


def _end_with_stdin() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
