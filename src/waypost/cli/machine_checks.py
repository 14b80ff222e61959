"""Whether this machine suits a node: clock, disk, files, ports.

Each check measures what a node depends on, and judges it by what the node promises with it: a
commit waits for an fsync, an election for a scheduler that lets the node run.
"""

import os
import resource
import shutil
import socket
import time
from pathlib import Path
from typing import Final

from waypost.cli.finding import Finding
from waypost.cli.port_holder import find_holder
from waypost.errors import WaypostError

FSYNC_GOOD_MS: Final = 10.0
"""The 99th percentile that a disk should keep under; etcd asks the same of its disks."""
FSYNC_BAD_MS: Final = 150.0
"""The election timeout."""
FSYNCS: Final = 100
FSYNC_BYTES: Final = 4096
STALL_GOOD_MS: Final = 50.0
"""A third of the election timeout of 150 ms: who is late by more loses leadership now and then."""
FREE_BAD: Final = 256 << 20
"""Four files of the log."""
FREE_POOR: Final = 2 << 30
FILES_BAD: Final = 1_024
FILES_POOR: Final = 65_536
_NAPS: Final = 50
_NAP_S: Final = 0.005
_VOLATILE: Final = ("tmpfs", "ramfs")


def check_clock() -> list[Finding]:
    """Whether time passes evenly for this process."""
    stalls: list[float] = []
    for _ in range(_NAPS):
        begun = time.monotonic()
        time.sleep(_NAP_S)
        stalls.append((time.monotonic() - begun - _NAP_S) * 1000)
    worst = max(stalls)
    found = [
        Finding(
            "clock",
            "note",
            f"{time.strftime('%Y-%m-%d %H:%M:%S', time.gmtime())} UTC; for people only: nodes "
            "never compare their clocks",
        )
    ]
    if worst < STALL_GOOD_MS:
        found.append(Finding("scheduling", "good", f"late by {worst:.1f} ms at most"))
    else:
        found.append(
            Finding(
                "scheduling",
                "poor",
                f"late by {worst:.1f} ms, and {STALL_GOOD_MS:g} ms is too late for an election",
                "give this machine more CPU, or fewer programs beside the node",
            )
        )
    return found


def check_disk(directory: Path) -> list[Finding]:
    """How fast the disk under a data directory syncs, and how much room it has."""
    there = directory if directory.is_dir() else _nearest(directory)
    found = [_check_room(there)]
    kind = file_system_of(there)
    if kind in _VOLATILE:
        found.append(
            Finding(
                "disk",
                "bad",
                f"{there} is a {kind}: nothing there survives a restart of the machine",
                "put the data directory on a disk",
            )
        )
    try:
        took = time_fsyncs(there)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        remedy = "let the user that runs the node write there"
        return [*found, Finding("fsync", "bad", f"{there}: {why}", remedy)]
    return [*found, judge_fsyncs(took)]


def judge_fsyncs(took: list[float]) -> Finding:
    """Judge a disk by what its syncs took, in milliseconds, ascending."""
    half, most = took[len(took) // 2], took[int(0.99 * len(took))]
    text = f"p50 {half:.2f} ms, p99 {most:.2f} ms"
    if most <= FSYNC_GOOD_MS:
        return Finding("fsync", "good", text)
    remedy = "use a local SSD, and keep other programs' heavy writes off it"
    if half > FSYNC_BAD_MS:
        return Finding("fsync", "bad", f"{text}: no leader can keep its place", remedy)
    text += f"; above {FSYNC_GOOD_MS:g} ms writes wait, and a leader may lose its place"
    return Finding("fsync", "poor", text, remedy)


def check_data(directory: Path) -> list[Finding]:
    """What is in a data directory, if there is one yet."""
    from waypost.node.inspection import inspect_directory

    if not directory.is_dir() or not any(directory.iterdir()):
        return [Finding("data", "note", f"{directory} is empty: a node would begin there")]
    try:
        told = inspect_directory(directory).directory
    except WaypostError as error:
        return [Finding("data", "bad", error.message, "name the data directory of a node")]
    holds = "nothing that can be read" if told.contents is None else _holds(told.contents.instances)
    text = f"{holds}; log up to {told.last}"
    if told.in_use_by:
        text += f"; process {told.in_use_by} runs on it"
    broken = told.contents is None or told.is_suspect or told.unreadable
    if broken or told.damage:
        return [
            Finding(
                "data",
                "bad" if broken else "note",
                f"{text}; {'; '.join(told.damage)}",
                "in a cluster the node mends it from the others; alone, restore a backup: "
                "'waypost snapshot inspect' says more"
                if broken
                else "",
            )
        ]
    return [Finding("data", "good", text)]


def check_files() -> list[Finding]:
    """How many files, and so connections, a process may have open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = "no limit" if soft == resource.RLIM_INFINITY else f"{soft} for a process"
    if soft == resource.RLIM_INFINITY or soft >= FILES_POOR:
        return [Finding("open files", "good", limit)]
    remedy = f"ulimit -n {FILES_POOR}, or LimitNOFILE={FILES_POOR} in the unit of systemd"
    if 0 <= hard < FILES_POOR:
        remedy += f" (more than the {hard} allowed needs root)"
    text = f"{limit}: as many connections, and each client has one"
    return [Finding("open files", "bad" if soft < FILES_BAD else "poor", text, remedy)]


def check_port(name: str, port: int, host: str = "127.0.0.1") -> Finding:
    """Whether a port can be listened on, or who does."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except PermissionError:
            remedy = "choose a port from 1024 on"
            return Finding(name, "bad", f"port {port} needs privileges", remedy)
        except OSError:
            return _judge_holder(name, port)
    return Finding(name, "good", f"port {port} is free")


def time_fsyncs(directory: Path) -> list[float]:
    """Milliseconds of so many small writes with a sync each, ascending."""
    path = directory / f".waypost-doctor-{os.getpid()}"
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    took: list[float] = []
    try:
        path.unlink()
        block = os.urandom(FSYNC_BYTES)
        os.pwrite(file, bytes(FSYNC_BYTES * FSYNCS), 0)
        os.fsync(file)
        for turn in range(FSYNCS):
            begun = time.perf_counter()
            os.pwrite(file, block, turn * FSYNC_BYTES)
            os.fdatasync(file)
            took.append((time.perf_counter() - begun) * 1000)
    finally:
        os.close(file)
    return sorted(took)


def file_system_of(path: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """The kind of file system that a path is on; empty where the system does not tell."""
    try:
        lines = mounts.read_text().splitlines()
    except OSError:
        return ""
    where = path.resolve()
    best, kind = -1, ""
    for line in lines:
        fields = line.split()
        mount = Path(fields[1].replace("\\040", " "))
        if (where == mount or mount in where.parents) and len(mount.parts) >= best:
            best, kind = len(mount.parts), fields[2]
    return kind


def _check_room(directory: Path) -> Finding:
    free = shutil.disk_usage(directory).free
    text = f"{free / (1 << 30):.1f} GiB free"
    if free >= FREE_POOR:
        return Finding("space", "good", text)
    remedy = "free some space: a node whose disk is full takes no more writes"
    return Finding("space", "bad" if free < FREE_BAD else "poor", text, remedy)


def _judge_holder(name: str, port: int) -> Finding:
    holder = find_holder(port)
    if holder is not None and "waypost" in holder.command:
        return Finding(name, "note", f"port {port} is held by a registry: {holder}")
    who = "another process" if holder is None else str(holder)
    remedy = "stop that, or choose another port"
    return Finding(name, "bad", f"port {port} is held by {who}", remedy)


def _holds(instances: int) -> str:
    return f"{instances} instances"


def _nearest(path: Path) -> Path:
    """The directory in which it would be made."""
    path = path.absolute()
    while not path.is_dir():
        path = path.parent
    return path
