"""Queries a second that the DNS door answers, and how many it loses, under dnsperf.

A service of ten instances on one durable node, asked for addresses and for places (SRV) in turn;
first as it is, then while one of its instances changes every second, then asked for what is not
there.  dnsperf, on the same machine, keeps 200 queries on their way from four sockets: it takes a
good part of two cores for itself.

Needs dnsperf (Debian's package of that name).  ``WAYPOST_BENCH_SECONDS`` says how long each takes.
"""

import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import urllib.request
from pathlib import Path

from benchmarks.servers import Ours, ours

SECONDS = os.environ.get("WAYPOST_BENCH_SECONDS", "30")
INSTANCES = 10
NAME = "web.service.waypost"
_FIGURES = re.compile(r"Queries (sent|completed|lost|per second): +([\d.]+)")


def main() -> None:
    if shutil.which("dnsperf") is None:
        raise SystemExit("dnsperf is not installed: apt-get install dnsperf")
    with ours() as server:
        for number in range(INSTANCES):
            _put(server, number, "0")
        _show("A and SRV of ten instances", server, f"{NAME} A\n{NAME} SRV\n")
        is_over = threading.Event()
        changing = threading.Thread(target=_change, args=(server, is_over))
        changing.start()
        try:
            _show("the same, one changes every second", server, f"{NAME} A\n{NAME} SRV\n")
        finally:
            is_over.set()
            changing.join()
        _show("a name that is not there", server, "nobody.service.waypost A\n")


def _change(server: Ours, is_over: threading.Event) -> None:
    version = 0
    while not is_over.wait(1):
        version += 1
        _put(server, 3, str(version))


def _put(server: Ours, number: int, version: str) -> None:
    body = {"host": f"10.0.0.{number}", "port": 8000, "ttl": 0, "version": version}
    request = urllib.request.Request(
        f"http://{server.http}/api/v1/services/web/instances/web-{number}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
        method="PUT",
    )
    urllib.request.urlopen(request, timeout=10).close()


def _show(what: str, server: Ours, queries: str) -> None:
    host, port = server.dns.rsplit(":", 1)
    with tempfile.TemporaryDirectory() as directory:
        asked = Path(directory, "queries")
        asked.write_text(queries)
        done = subprocess.run(
            [
                *("dnsperf", "-s", host, "-p", port, "-d", str(asked)),
                *("-l", SECONDS, "-c", "4", "-q", "200"),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
    figures = {name: float(value) for name, value in _FIGURES.findall(done.stdout)}
    print(
        f"   {what:<36} {figures['per second']:>9,.0f} queries/s, "
        f"{figures['lost']:,.0f} lost of {figures['sent']:,.0f}",
        flush=True,
    )
