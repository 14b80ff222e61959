"""A program of others, as a process whose log is kept."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.doors.over_http import eventually

LOOKS_EVERY_S = 0.02
"""How often a server of the tests, of the standard library, sees whether it is to end."""
_SHOWN = 4000


def installed(name: str, package: str) -> str:
    """Where a program of the system is."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin")
    assert found is not None, f"{name} is not installed: apt-get install {package}"
    return found


class Program:
    """It runs inside ``with``, which begins when it is ready; what it leaves is in a directory."""

    def __init__(
        self,
        directory: Path,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        talks: bool = False,
    ) -> None:
        """One that ``talks`` does so by its standard input and output."""
        directory.mkdir(exist_ok=True)
        self._directory = directory
        self._command = command
        self._env = env
        self._talks = talks
        self._log = directory / "log"

    def __enter__(self) -> Self:
        pipe = subprocess.PIPE if self._talks else None
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=self._directory,
                env=self._env,
                stdin=pipe,
                stdout=pipe or log,
                stderr=log,
                text=True,
            )
        try:
            eventually(self._is_up, self.log)
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()

    def is_ready(self) -> bool:
        """Whether it does what it is there for."""
        return True

    def log(self) -> str:
        """The end of what it said."""
        return self._log.read_text()[-_SHOWN:]

    def end(self) -> None:
        """End it."""
        self.process.kill()
        self.process.communicate()

    def _is_up(self) -> bool:
        assert self.process.poll() is None, f"it ended: {self.log()}"
        return self.is_ready()
