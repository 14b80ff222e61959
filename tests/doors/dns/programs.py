"""The programs of others that ask the DNS door, and what they would call."""

import http.client
import re
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.doors.life import FATES, SERVICE
from tests.doors.program import LOOKS_EVERY_S, Program, installed
from tests.processes.cluster import free_ports

from waypost.model import Health, Instance
from waypost.node.bootstrap import NodeConfig
from waypost.servers.dns.settings import DnsSettings
from waypost.standalone import StandaloneThread

HOSTS = {fate: f"127.0.0.{at}" for at, fate in enumerate(FATES, 2)}
"""Where each instance is."""


class Registry:
    """A registry in memory with its DNS door; a context manager."""

    def __init__(self, settings: DnsSettings | None = None, *, dns_port: int = 0) -> None:
        self._thread = StandaloneThread(
            NodeConfig(), native_port=0, http_port=None, dns_port=dns_port, dns=settings
        )

    def __enter__(self) -> Self:
        self._thread.start()
        self.dns = self._thread.standalone.dns_address
        self.port = self.dns.rpartition(":")[2]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._thread.stop()

    def register(
        self, instance_id: str, host: str, port: int = 80, service: str = SERVICE, **fields: Any
    ) -> None:
        instance = Instance(service, instance_id, host, port, **fields)
        verbs = self._thread.standalone.registry
        self._thread.submit(verbs.register(instance, ttl_ms=0)).result()

    def say(self, instance_id: str, health: Health) -> None:
        verbs = self._thread.standalone.registry
        self._thread.submit(verbs.set_health(SERVICE, instance_id, health)).result()

    def deregister(self, instance_id: str) -> None:
        verbs = self._thread.standalone.registry
        self._thread.submit(verbs.deregister(SERVICE, instance_id)).result()


class Backends:
    """A server on each of ``HOSTS``, at one port, that says where it is; a context manager."""

    def __enter__(self) -> Self:
        (self.port,) = free_ports(1)
        self._servers = [ThreadingHTTPServer((host, self.port), _Here) for host in HOSTS.values()]
        self._threads = [
            threading.Thread(target=each.serve_forever, args=(LOOKS_EVERY_S,))
            for each in self._servers
        ]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for server, thread in zip(self._servers, self._threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


class _Here(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = str(self.server.server_address[0]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Proxy(Program):
    """A proxy of others that finds its backends by DNS."""

    def __init__(self, directory: Path, command: list[str], port: int) -> None:
        super().__init__(directory, command)
        self._port = port

    def seen(self) -> set[str]:
        """Which backends it calls now, out of a few requests."""
        found = {self._get() for _ in range(16)}
        return found if None not in found else set()

    def _get(self) -> str | None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        try:
            connection.request("GET", "/")
            answer = connection.getresponse()
            return answer.read().decode() if answer.status == 200 else None
        finally:
            connection.close()

    def is_ready(self) -> bool:
        """Whether it listens."""
        try:
            self._get()
        except OSError:
            return False
        return True


def nginx(directory: Path, backend_port: int, *resolvers: str) -> Proxy:
    directory.mkdir()
    (port,) = free_ports(1)
    config = directory / "nginx.conf"
    config.write_text(
        f"""daemon off; master_process off; pid {directory}/pid; error_log stderr;
        events {{}}
        http {{
            access_log off; client_body_temp_path {directory}; proxy_temp_path {directory};
            fastcgi_temp_path {directory}; uwsgi_temp_path {directory}; scgi_temp_path {directory};
            resolver {" ".join(resolvers)} valid=1s ipv6=off;
            server {{
                listen 127.0.0.1:{port};
                location / {{
                    set $service {SERVICE}.service.waypost;
                    proxy_pass http://$service:{backend_port};
                }}
            }}
        }}"""
    )
    command = [installed("nginx", "nginx-light"), "-p", str(directory), "-c", str(config)]
    return Proxy(directory, command, port)


def haproxy(directory: Path, *resolvers: str) -> Proxy:
    directory.mkdir()
    (port,) = free_ports(1)
    config = directory / "haproxy.cfg"
    servers = "\n".join(f"    nameserver n{at} {each}" for at, each in enumerate(resolvers))
    config.write_text(
        f"""
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
resolvers waypost
{servers}
    accepted_payload_size 8192
    timeout resolve 200ms
    timeout retry 200ms
    hold valid 200ms
    hold nx 200ms
    hold obsolete 200ms
listen web
    bind 127.0.0.1:{port}
    http-reuse never
    server-template web 8 _{SERVICE}._tcp.service.consul resolvers waypost init-addr none
"""
    )
    return Proxy(directory, [installed("haproxy", "haproxy"), "-f", str(config), "-db"], port)


def dig(port: str, *words: str, at: str = "127.0.0.1") -> list[str]:
    """What dig prints of the answers, a line each."""
    return _asked(installed("dig", "bind9-dnsutils"), port, at, *words)


def kdig(port: str, *words: str, at: str = "127.0.0.1") -> list[str]:
    """What kdig prints of the answers, a line each."""
    return _asked(installed("kdig", "knot-dnsutils"), port, at, *words)


def code(port: str, *words: str) -> str:
    """The code of the answer, by dig."""
    command = [installed("dig", "bind9-dnsutils"), "@127.0.0.1", "-p", port, "+tries=1", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    found = re.search(r"status: (\w+)", done.stdout)
    assert found is not None, done.stdout
    return found[1]


def _asked(command: str, port: str, at: str, *words: str) -> list[str]:
    done = subprocess.run(
        [command, f"@{at}", "-p", port, "+short", *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return [line for line in done.stdout.splitlines() if line]
