"""Programs of users of Consul's libraries that keep keys and locks, as processes."""

import json
import shutil
import subprocess
import sys
import venv
from pathlib import Path

from tests.doors.cached import cached

HERE = Path(__file__).parent
PY_CONSUL = "py-consul==1.8.0"
PYTHON_CONSUL2 = "python-consul2==0.1.5"
NPM_CONSUL = "consul@2.0.1"


def python_command(package: str, script: str) -> list[str]:
    """Run a script of this directory by a Python that has that package, and nothing else."""

    def install(place: Path) -> None:
        venv.create(place, with_pip=False, symlinks=True)
        into = next(place.glob("lib/python*/site-packages"))
        pip = [sys.executable, "-m", "pip", "install", "-q", "--target", str(into), package]
        subprocess.run(pip, check=True, timeout=100)

    python = cached((package, sys.version), install) / "bin" / "python"
    return [str(python), str(HERE / script)]


def js_command(directory: Path, script: str) -> list[str]:
    """Run a script of this directory by Node.js, with npm's ``consul``."""
    node, npm = shutil.which("node"), shutil.which("npm")
    assert node is not None, "Node.js is not installed: apt-get install nodejs"
    assert npm is not None, "npm is not installed: apt-get install npm"

    def install(place: Path) -> None:
        (place / "package.json").write_text('{"private": true}')
        command = [npm, "install", "--no-audit", "--no-fund", "--silent", NPM_CONSUL]
        subprocess.run(command, cwd=place, check=True, timeout=100)

    directory.mkdir(exist_ok=True)
    shutil.copy(HERE / script, directory)
    modules = directory / "node_modules"
    if not modules.exists():
        modules.symlink_to(cached((NPM_CONSUL,), install) / "node_modules")
    return [node, str(directory / script)]


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
