"""Programs that take a lock in turns, as processes."""

import json
import subprocess
from pathlib import Path


class Locker:
    """A process that takes a lock again and again, and writes down when it held it."""

    def __init__(self, command: list[str], nodes: list[str], directory: Path, name: str) -> None:
        self.times = directory / f"{name}.held"
        self.log = directory / f"{name}.log"
        with self.times.open("wb") as out, self.log.open("wb") as log:
            self._process = subprocess.Popen([*command, name, *nodes], stdout=out, stderr=log)

    def held(self) -> list[tuple[int, int]]:
        """From when to when, by the clock that all processes of a machine share."""
        assert self._process.poll() is None, self.log.read_text()[-3000:]
        lines = self.times.read_text().splitlines(keepends=True)
        return [tuple(json.loads(line)) for line in lines if line.endswith("\n")]

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
