"""Run the command line as its users do: as processes, with a pipe or with a terminal."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WAYPOST = [sys.executable, "-m", "waypost"]
PATIENCE_S = 20.0
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Result:
    """What a command said, and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def json(self) -> Any:
        (line,) = self.out.splitlines()
        return json.loads(line)

    @property
    def error(self) -> Any:
        (line,) = self.err.splitlines()
        return json.loads(line)["error"]

    def __repr__(self) -> str:
        return f"Result({self.code}, out={self.out!r}, err={self.err!r})"


class World:
    """An environment of its own for the commands of one test."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.env = {
            **{k: v for k, v in os.environ.items() if not k.startswith("WAYPOST")},
            "XDG_CACHE_HOME": str(directory / "cache"),
            "COLUMNS": "140",
            "TERM": "xterm",
        }

    def run(self, *arguments: str, server: str | None = None, timeout: float = 30.0) -> Result:
        """Run a command to its end, with pipes."""
        done = subprocess.run(
            [*WAYPOST, *arguments],
            env=self.env_for(server),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Result(done.returncode, done.stdout, done.stderr)

    def env_for(self, server: str | None) -> dict[str, str]:
        return self.env if server is None else {**self.env, "WAYPOST": server}

    @contextmanager
    def running(
        self,
        *arguments: str,
        server: str | None = None,
        env: Mapping[str, str] | None = None,
        command: Sequence[str] = WAYPOST,
    ) -> Iterator["Running"]:
        """Run a command in the background; it is gone at the end of the block."""
        process = subprocess.Popen(
            [*command, *arguments],
            env={**self.env_for(server), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        running = Running(process)
        try:
            yield running
        finally:
            running.end()

    @contextmanager
    def serving(self, *arguments: str) -> Iterator["Running"]:
        """Run a registry on free ports; it is ready when the block begins."""
        ports = [] if "--port" in arguments else ["--port", "0", "--http-port", "0"]
        ports += ["--dns-port", "0"]
        with self.running("serve", *ports, *arguments) as running:
            running.ready = running.line()
            yield running

    def on_a_terminal(
        self,
        *arguments: str,
        server: str | None = None,
        then: "Callable[[Terminal], None] | None" = None,
    ) -> Result:
        """Run a command on a terminal of its own; ``then`` may act while it runs."""
        terminal = Terminal([*WAYPOST, *arguments], self.env_for(server))
        try:
            if then is not None:
                then(terminal)
            return terminal.finish()
        finally:
            terminal.end()


class Running:
    """A command in the background."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process
        self.ready: Any = None
        self._out = b""
        self._err = b""

    @property
    def native(self) -> str:
        return str(self.ready["native"])

    def line(self) -> Any:
        """The next line that it prints, as JSON."""
        return json.loads(self.text_line())

    def text_line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        while b"\n" not in self._out:
            data = _read(self.process.stdout.fileno())
            assert data, f"it ended without a line: {self.finish()}"
            self._out += data
        line, _, self._out = self._out.partition(b"\n")
        return line.decode()

    def wait_for_error(self, text: str) -> None:
        """Wait until it has said this on stderr."""
        assert self.process.stderr is not None
        while text.encode() not in self._err:
            data = _read(self.process.stderr.fileno())
            assert data, f"it ended without {text!r} on stderr: {self.finish()}"
            self._err += data

    def send(self, number: int) -> None:
        self.process.send_signal(number)

    def finish(self, patience_s: float = PATIENCE_S) -> Result:
        """Wait until it has ended."""
        out, err = self.process.communicate(timeout=patience_s)
        return Result(
            self.process.returncode, (self._out + out).decode(), (self._err + err).decode()
        )

    def stop(self) -> Result:
        """Ask it to end, and wait until it has."""
        self.send(signal.SIGTERM)
        return self.finish()

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


class Terminal:
    """A command that believes that a person looks on."""

    def __init__(self, command: Sequence[str], env: Mapping[str, str]) -> None:
        self._ours, theirs = pty.openpty()
        self.process = subprocess.Popen(
            command,
            env=env,
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        os.close(theirs)
        self._shown = b""

    @property
    def shown(self) -> str:
        return ANSI.sub("", self._shown.decode()).replace("\r\n", "\n")

    def wait_for(self, text: str) -> None:
        """Wait until this is shown."""
        while text not in self.shown:
            data = _read(self._ours)
            assert data, f"it ended without showing {text!r}: {self.shown}"
            self._shown += data

    def type(self, text: str) -> None:
        """Type this."""
        os.write(self._ours, text.encode())

    def finish(self) -> Result:
        while data := _read(self._ours):
            self._shown += data
        assert self.process.stderr is not None
        err = self.process.stderr.read().decode()
        return Result(self.process.wait(PATIENCE_S), self.shown, err)

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        assert self.process.stderr is not None
        self.process.stderr.close()
        os.close(self._ours)


def eventually(is_so: Callable[[], bool], what: str = "") -> None:
    """Wait for what no event tells."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, f"waited in vain {what}"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process runs, and is no zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def relatives(world: World) -> dict[int, str]:
    """The processes that run in a world's environment, with their commands."""
    mark = f"XDG_CACHE_HOME={world.env['XDG_CACHE_HOME']}\0".encode()
    found: dict[int, str] = {}
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and is_alive(int(process.name)):
            try:
                if mark in (process / "environ").read_bytes():
                    command = (process / "cmdline").read_bytes().replace(b"\0", b" ")
                    found[int(process.name)] = command.decode()
            except OSError:  # it ended meanwhile
                continue
    return found


def _read(descriptor: int) -> bytes:
    readable, _, _ = select.select([descriptor], [], [], PATIENCE_S)
    assert readable, "nothing came"
    try:
        return os.read(descriptor, 65_536)
    except OSError:  # a terminal whose other end is closed
        return b""
