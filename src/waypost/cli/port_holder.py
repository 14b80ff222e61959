"""Who listens on a port: so that "address already in use" can name the culprit.

Linux tells by /proc (proc(5)): ``net/tcp`` gives the inode of the listening socket, and one of the
descriptors in ``*/fd`` is a link to that inode.  Other systems do not tell, and other users'
processes hide their descriptors; then nothing is known, and None is returned.
"""

import contextlib
from pathlib import Path
from typing import Final

import msgspec

_LISTEN: Final = "0A"
_COMMAND_CHARS_MAX: Final = 80


class Holder(msgspec.Struct, frozen=True, gc=False):
    """A process that listens on a port."""

    pid: int
    command: str

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})"


def find_holder(port: int, proc: Path = Path("/proc")) -> Holder | None:
    """The process that listens on ``port``, if the system tells."""
    inodes = {
        inode for table in ("tcp", "tcp6") for inode in _listening(proc / "net" / table, port)
    }
    if not inodes:
        return None
    targets = {f"socket:[{inode}]" for inode in inodes}
    for process in proc.iterdir():
        if process.name.isdigit() and _holds(process, targets):
            return Holder(int(process.name), _command_of(process))
    return None


def _listening(table: Path, port: int) -> list[str]:
    try:
        lines = table.read_text("ascii").splitlines()[1:]
    except OSError:
        return []
    found: list[str] = []
    for fields in (line.split() for line in lines):
        local, state, inode = fields[1], fields[3], fields[9]
        if state == _LISTEN and int(local.rpartition(":")[2], 16) == port:
            found.append(inode)
    return found


def _holds(process: Path, targets: set[str]) -> bool:
    with contextlib.suppress(OSError):  # it ended meanwhile, or belongs to somebody else
        for descriptor in (process / "fd").iterdir():
            with contextlib.suppress(OSError):
                if str(descriptor.readlink()) in targets:
                    return True
    return False


def _command_of(process: Path) -> str:
    with contextlib.suppress(OSError):
        words = (process / "cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        command = b" ".join(words).decode("utf-8", "replace")
        return command if len(command) <= _COMMAND_CHARS_MAX else command[:77] + "..."
    return "unknown command"
