"""Debian's Prometheus as a process, and something for it to scrape."""

import json
import shutil
import subprocess
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from tests.doors.over_http import eventually

from waypost.cli.demo.ports import free_ports

GLOBAL = "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\n"


class Prometheus:
    """It, with a configuration; a context manager."""

    def __init__(self, directory: Path, scrape_configs: str) -> None:
        program = shutil.which("prometheus")
        assert program is not None, "prometheus is not installed: apt-get install prometheus"
        directory.mkdir()
        config = directory / "prometheus.yml"
        config.write_text(f"{GLOBAL}scrape_configs:\n{scrape_configs}")
        (port,) = free_ports(1)
        self._log = directory / "log"
        self._url = f"http://127.0.0.1:{port}"
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    program,
                    f"--config.file={config}",
                    f"--storage.tsdb.path={directory / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                ],
                stdout=log,
                stderr=log,
            )

    def __enter__(self) -> Self:
        eventually(self._is_ready, self._log.read_text)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.wait()

    def targets(self, label: str = "id") -> dict[str, str]:
        """What it scrapes now and how that goes (``up`` or ``down``), by a label of each."""
        active = self._get("/api/v1/targets?state=active")["activeTargets"]
        return {each["labels"].get(label, each["scrapeUrl"]): each["health"] for each in active}

    def discovered(self, job: str) -> list[dict[str, str]]:
        """The labels that discovery gave a job, before its relabelling."""
        active = self._get("/api/v1/targets?state=active")["activeTargets"]
        return [each["discoveredLabels"] for each in active if each["scrapePool"] == job]

    def until(self, expected: dict[str, str], label: str = "id") -> None:
        """Wait until it scrapes these, with that success."""
        eventually(
            lambda: self.targets(label) == expected,
            lambda: f"{self.targets(label)}\n{self._log.read_text()[-2000:]}",
        )

    def value(self, query: str) -> list[tuple[dict[str, str], str]]:
        """What a query of its own language yields now: labels and value."""
        result = self._get(f"/api/v1/query?query={quote(query)}")["result"]
        return [(each["metric"], each["value"][1]) for each in result]

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        try:
            urllib.request.urlopen(f"{self._url}/-/ready", timeout=2).close()
        except OSError:
            return False
        return True

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(self._url + path, timeout=10) as answer:
            return json.load(answer)["data"]


class Scraped:
    """A server with a metric, as an instance has; a context manager."""

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Metrics)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever)
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
