"""The pages for newcomers run as they stand, from top to bottom, as a reader would paste them.

A ``console`` block is a shell's, a ``python`` block a program; ``sh`` is for what a reader does
before (install, serve) and is not run.  The other pages have tests of their own beside their code.
"""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("docs/quickstart.md", "docs/concepts.md")
_BLOCK = re.compile(r"^```(console|python)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_BLOCK_S = 60


def blocks_of(page: str) -> list[tuple[int, str, str]]:
    """The blocks of a page that run: line, kind and content."""
    text = (ROOT / page).read_text()
    return [
        (text.count("\n", 0, found.start()) + 1, found[1], found[2])
        for found in _BLOCK.finditer(text)
    ]


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A registry, named in the environment as a reader would have it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "waypost", "serve", "--port", "0", "--http-port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    yield {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "WAYPOST": ready["native"],
        "WAYPOST_HTTP": ready["http"],
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    process.terminate()
    process.wait(20)
    process.stdout.close()


def run_page(page: str, environment: dict[str, str], directory: Path) -> None:
    """Run every block in order; what was left in the background is ended with the page."""
    groups: list[int] = []
    try:
        for line, kind, content in blocks_of(page):
            if kind == "console":
                commands = re.findall(r"^\$ (.*)$", content, re.MULTILINE)
                # A watch that `timeout` ends did what it should: 124 is its end.
                script = "\n".join(
                    f"{c}" if c.endswith("&") else f"{c} || [ $? = 124 ]" for c in commands
                )
                command = ["bash", "-ec", script]
            else:
                command = [sys.executable, "-c", content]
            with (directory / "output").open("w+") as output:
                process = subprocess.Popen(
                    command,
                    cwd=directory,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
                groups.append(process.pid)
                code = process.wait(_BLOCK_S)
                output.seek(0)
                assert code == 0, f"{page}:{line} ended with {code}:\n{output.read()}"
    finally:
        for group in groups:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, signal.SIGTERM)


@pytest.mark.parametrize("page", PAGES)
def test_the_page_runs_as_it_stands(page: str, environment: dict[str, str], tmp_path: Path) -> None:
    assert blocks_of(page) or page == "docs/concepts.md"
    run_page(page, environment, tmp_path)


def test_the_first_lines_of_the_readme_find_and_call_a_provider_in_another_process(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "hello.txt").write_text("hello from orders")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    pythons = [content for _, kind, content in blocks_of("README.md") if kind == "python"]
    provide = pythons[0].replace("9001", str(port)) + "\nimport time; time.sleep(60)"
    consume = pythons[1] + "\nprint(consumer.call_service(url + '/hello.txt').text)"
    server = subprocess.Popen(
        [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1"],
        cwd=tmp_path,
        stderr=subprocess.DEVNULL,
    )
    provider = subprocess.Popen([sys.executable, "-c", provide], env=environment)
    try:
        _wait_until_registered(environment["WAYPOST_HTTP"])
        done = subprocess.run(
            [sys.executable, "-c", consume],
            env=environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == "hello from orders\n"
    finally:
        for process in (provider, server):
            process.kill()
            process.wait()


def test_the_asyncio_lines_of_the_readme_run(environment: dict[str, str], tmp_path: Path) -> None:
    pythons = [content for _, kind, content in blocks_of("README.md") if kind == "python"]

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", pythons[2]],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert "up billing" in done.stdout


def _wait_until_registered(http: str) -> None:
    for _ in range(200):
        try:
            urllib.request.urlopen(f"http://{http}/api/v1/services/orders", timeout=5).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise AssertionError("the provider of the README did not register")
