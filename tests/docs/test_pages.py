"""Every page runs as it stands, here or beside the code that it is about."""

import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs import runner
from tests.docs.runner import ROOT, blocks_of, run_page

ELSEWHERE = {
    "README.md": "tests/docs/test_pages.py",  # its blocks are one program and another, below
    "docs/balancing.md": "tests/balance/test_page.py",
    "docs/etcd.md": "tests/node/etcd/test_page.py",
    "docs/http.md": "tests/servers/http/test_docs.py",
    "docs/python.md": "tests/client/test_page.py",
    "docs/wal-format.md": "tests/storage/test_wal_format_page.py",
}
"""Pages whose code is run by tests of their own, and where."""
PAGES = sorted(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md"))
NOT_RUN_MAX = 3


@pytest.mark.parametrize("page", [page for page in PAGES if page not in ELSEWHERE])
def test_the_page_runs_as_it_stands(page: str, tmp_path: Path) -> None:
    run_page(page, tmp_path)


@pytest.mark.parametrize(("page", "tests"), ELSEWHERE.items())
def test_the_page_is_run_where_it_is_said_to_be(page: str, tests: str) -> None:
    assert (ROOT / page).exists()
    assert Path(page).name in (ROOT / tests).read_text()


def test_hardly_anything_on_the_pages_is_not_run() -> None:
    not_run = [
        f"{page}:{block.line}"
        for page in [*PAGES, "README.md"]
        for block in blocks_of(page)
        if block.mark == "no-run"
    ]

    assert len(not_run) <= NOT_RUN_MAX, not_run


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    with runner.environment(tmp_path) as environ:
        yield environ


def pythons_of_the_readme() -> list[str]:
    return [block.content for block in blocks_of("README.md") if block.language == "python"]


def test_the_first_lines_of_the_readme_find_and_call_a_provider_in_another_process(
    environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "hello.txt").write_text("hello from orders")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    provide, consume, _ = pythons_of_the_readme()
    provide = provide.replace("9001", str(port)) + "\nimport time; time.sleep(60)"
    consume += "\nprint(consumer.call_service(url + '/hello.txt').text)"
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


def test_the_asyncio_lines_of_the_readme_run(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", pythons_of_the_readme()[2]],
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
