"""The examples, on docs/python.md and beside it, run as they stand."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from waypost.node.bootstrap import NodeConfig
from waypost.standalone import StandaloneThread

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "python.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    thread = StandaloneThread(NodeConfig(), native_port=0, http_port=None).start()
    yield thread.standalone.native_address
    thread.stop()


@pytest.fixture
def environment(address: str, tmp_path: Path) -> dict[str, str]:
    return {**os.environ, "WAYPOST": address, "XDG_CACHE_HOME": str(tmp_path)}


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_an_example_runs_as_it_stands(
    block: str, environment: dict[str, str], tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", block],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert "Traceback" not in done.stderr


def test_the_page_has_its_examples() -> None:
    assert len(BLOCKS) == 9


def test_the_example_consumer_calls_the_example_provider_until_it_has_drained(
    environment: dict[str, str],
) -> None:
    provider = subprocess.Popen(
        [sys.executable, ROOT / "examples" / "provider.py"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert provider.stdout is not None
        instance_id = provider.stdout.readline().split()[0]
        consumer = subprocess.Popen(
            [sys.executable, ROOT / "examples" / "consumer.py", "6"],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert consumer.stdout is not None
        assert consumer.stdout.readline() == f"{instance_id}: hello from process {provider.pid}\n"

        provider.send_signal(signal.SIGTERM)
        assert provider.wait(10) == 0
        assert provider.stdout.readline() == "drained: 1 consumers, 0 unheard of\n"

        rest = consumer.communicate(timeout=20)[0]
        assert consumer.returncode == 0
        assert "no instance of hello is registered" in rest
        assert "goes elsewhere" not in rest, "no call failed"
    finally:
        provider.kill()
        provider.wait(10)
        assert provider.stdout is not None
        provider.stdout.close()
