"""Debian's Prometheus as a process, and something for it to scrape."""

import json
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from tests.doors.program import LOOKS_EVERY_S, Program, installed

from waypost.cli.demo.ports import free_ports

GLOBAL = "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\n"


class Prometheus(Program):
    """It, with a configuration."""

    def __init__(self, directory: Path, scrape_configs: str) -> None:
        (port,) = free_ports(1)
        self._url = f"http://127.0.0.1:{port}"
        command = [
            installed("prometheus", "prometheus"),
            f"--config.file={directory / 'prometheus.yml'}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        super().__init__(directory, command)
        (directory / "prometheus.yml").write_text(f"{GLOBAL}scrape_configs:\n{scrape_configs}")

    def targets(self, job: str, label: str = "id") -> dict[str, str]:
        """What a job scrapes now and how that goes (``up`` or ``down``), by a label of each."""
        return {each["labels"][label]: each["health"] for each in self._active(job)}

    def discovered(self, job: str) -> list[dict[str, str]]:
        """The labels that discovery gave a job, before its relabelling."""
        return [each["discoveredLabels"] for each in self._active(job)]

    def value(self, query: str) -> list[tuple[dict[str, str], str]]:
        """What a query of its own language yields now: labels and value."""
        result = self._get(f"/api/v1/query?query={quote(query)}")["result"]
        return [(each["metric"], each["value"][1]) for each in result]

    def is_ready(self) -> bool:
        """Whether it is, by its own word."""
        try:
            urllib.request.urlopen(f"{self._url}/-/ready", timeout=2).close()
        except OSError:
            return False
        return True

    def _active(self, job: str) -> list[Any]:
        active = self._get("/api/v1/targets?state=active")["activeTargets"]
        return [each for each in active if each["scrapePool"] == job]

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(self._url + path, timeout=10) as answer:
            return json.load(answer)["data"]


class Scraped:
    """A server with a metric, as an instance has; a context manager."""

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Metrics)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(LOOKS_EVERY_S,))
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Metrics(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"orders_served 42\n"
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass
