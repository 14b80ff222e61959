"""Runs the code of a page as it stands, from top to bottom, as a reader would paste it.

What runs is said by the word after the fence, and those that follow it:

    python              a program of its own
    python test         a file of tests, under pytest
    python no-run       not run: for what cannot be; there should be few
    console             a shell's: the lines that begin with ``$``

Everything else is for reading.  A registry in memory listens at ``$WAYPOST``, ``$WAYPOST_HTTP``
and ``$WAYPOST_DNS``; the current directory is empty at the top of the page.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from waypost.node.bootstrap import NodeConfig
from waypost.standalone import StandaloneThread

ROOT = Path(__file__).parents[2]
BLOCK_S = 60
_FENCE = re.compile(r"^```(python|console)((?: [\w-]+)*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_MARKS = {"python": {"", "test", "no-run"}, "console": {""}}


class Block(NamedTuple):
    """One block that runs, or is marked as one that does not."""

    line: int
    language: str
    mark: str
    content: str


def blocks_of(page: str) -> list[Block]:
    """The blocks of a page, in order."""
    text = (ROOT / page).read_text()
    blocks = [
        Block(text.count("\n", 0, found.start()) + 1, found[1], found[2].strip(), found[3])
        for found in _FENCE.finditer(text)
    ]
    for block in blocks:
        assert block.mark in _MARKS[block.language], f"{page}:{block.line}: {block.mark!r}?"
    return blocks


@contextlib.contextmanager
def environment(directory: Path) -> Iterator[dict[str, str]]:
    """A registry, named in the environment as a reader would have it."""
    ports = {"native_port": 0, "http_port": 0, "dns_port": 0, "xds_port": 0}
    thread = StandaloneThread(NodeConfig(), **ports).start()
    try:
        yield {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "WAYPOST": thread.standalone.native_address,
            "WAYPOST_HTTP": thread.standalone.http_address,
            "WAYPOST_DNS": thread.standalone.dns_address,
            "WAYPOST_XDS": thread.standalone.xds_address,
            "XDG_CACHE_HOME": str(directory / "cache"),
        }
    finally:
        thread.stop()


def run_page(page: str, directory: Path) -> None:
    """Run every block in order; what one leaves in the background ends with the page."""
    groups: list[int] = []
    here = directory / "here"
    here.mkdir()
    with environment(directory) as environ:
        try:
            for block in blocks_of(page):
                if block.mark != "no-run":
                    _run(page, block, environ, directory, here, groups)
        finally:
            for group in groups:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(group, signal.SIGTERM)


def _run(
    page: str,
    block: Block,
    environ: dict[str, str],
    directory: Path,
    here: Path,
    groups: list[int],
) -> None:
    # Not through a pipe: a program left in the background would hold it open.
    with (directory / "output").open("w+") as output:
        process = subprocess.Popen(
            _command(block, directory),
            cwd=here,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        groups.append(process.pid)
        try:
            code: int | str = process.wait(BLOCK_S)
        except subprocess.TimeoutExpired:
            code = f"no end within {BLOCK_S} s"
        output.seek(0)
        assert code == 0, f"{page}:{block.line} ended with {code}:\n{output.read()}"


def _command(block: Block, directory: Path) -> list[str]:
    if block.language == "console":
        # A watch that `timeout` ends did what it should: 124 is its end.
        lines = re.findall(r"^\$ (.*)$", block.content, re.MULTILINE)
        script = (line if line.endswith("&") else f"{line} || [ $? = 124 ]" for line in lines)
        return ["bash", "-ec", "\n".join(script)]
    if block.mark == "test":
        file = directory / f"test_line_{block.line}.py"
        file.write_text(block.content)
        quiet = ["-q", "-p", "no:cacheprovider", "-W", "error", "--rootdir", str(directory)]
        return [sys.executable, "-m", "pytest", *quiet, str(file)]
    return [sys.executable, "-W", "error", "-c", block.content]
