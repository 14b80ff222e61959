"""``waypost snapshot save|restore|inspect``: backups, and what is in a file or a directory."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from waypost.cli import exits
from waypost.cli.options import json_option

if TYPE_CHECKING:
    from waypost.node.inspection import Contents, Directory, SnapshotFile, Told

HTTP_DEFAULT: Final = "127.0.0.1:8500"
_READ_BYTES: Final = 1 << 18
_TIMEOUT_S: Final = 30.0
_TELL_EVERY_S: Final = 0.1


@click.group()
def snapshot() -> None:
    """Back up what a registry holds, look into backups and data directories, restore."""


@snapshot.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--http",
    "address",
    envvar="WAYPOST_HTTP",
    default=HTTP_DEFAULT,
    metavar="HOST:PORT",
    help=f"The HTTP address of a node.  [env: WAYPOST_HTTP; default: {HTTP_DEFAULT}]",
)
@click.option(
    "--stale",
    is_flag=True,
    help="Take what that node knows, without asking a majority whether it is the newest.",
)
@json_option
def save(file: Path, address: str, stale: bool, as_json: bool) -> int:
    """Write what the registry holds now into FILE.

    The state is that of one moment, with everything that was acknowledged before; the registry
    goes on meanwhile.  FILE appears when it is whole and verified.
    """
    from waypost.cli import output
    from waypost.cli.asking import failed
    from waypost.errors import WaypostError
    from waypost.node.inspection import inspect_snapshot

    part = file.with_name(f".{file.name}.part")
    try:
        _fetch(address, stale, part, as_json)
        told, contents = inspect_snapshot(part)
        if told.damage or contents is None:
            from waypost.errors import CorruptData

            raise CorruptData(f"the snapshot arrived damaged: {told.damage}: try again")
        part.rename(file)
        _sync_directory(file.absolute().parent)
    except WaypostError as error:
        return failed(error, f"save a snapshot to {file}", address, as_json)
    finally:
        part.unlink(missing_ok=True)
    if output.is_for_people(as_json):
        print(f"{file}: {_size(told.bytes)}, {_contents_text(contents)}")
    else:
        output.print_json({"file": str(file), "bytes": told.bytes, "contents": contents})
    return exits.OK


@snapshot.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path))
@json_option
def inspect(path: Path, as_json: bool) -> int:
    """Show what a snapshot FILE or a data DIRECTORY holds, and what of it is damaged.

    Nothing is changed.  Exits with 65 if something is damaged.
    """
    from waypost.cli import output
    from waypost.node.inspection import inspect_directory, inspect_snapshot

    if path.is_dir():
        directory = inspect_directory(path).directory
        if output.is_for_people(as_json):
            _print_directory(directory)
        else:
            output.print_json(directory)
        damaged = bool(directory.unreadable or directory.is_suspect or directory.contents is None)
        damaged = damaged or any(each.damage for each in directory.snapshots)
        return exits.DAMAGED if damaged else exits.OK
    told, contents = inspect_snapshot(path)
    if output.is_for_people(as_json):
        output.print_table(("", str(path)), _snapshot_rows(told, contents))
    else:
        output.print_json({"snapshot": told, "contents": contents})
    return exits.DAMAGED if told.damage else exits.OK


@snapshot.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    metavar="DIR",
    help="Where to make it; must not exist, or be empty.",
)
@click.option("--name", default="local", show_default=True, metavar="NODE", help="Of the node.")
@json_option
def restore(file: Path, data_dir: Path, name: str, as_json: bool) -> int:
    """Make a new data directory from a snapshot FILE: a cluster of one, to be served and grown.

    It is a new cluster with a lineage of its own, going on from the snapshot's revision.
    """
    from waypost.cli import output
    from waypost.node.restoring import restore as restore_into

    restored = restore_into(file, data_dir, name=name)
    if not output.is_for_people(as_json):
        output.print_json(restored)
        return exits.OK
    named = "" if name == "local" else f" --name {name}"
    print(
        f"{data_dir}: {_contents_text(restored.contents)}\n"
        f"a new cluster {restored.cluster}, from a snapshot of {restored.from_cluster}\n"
        f"start it:  waypost serve --data-dir {data_dir}{named}"
    )
    return exits.OK


def _fetch(address: str, stale: bool, part: Path, as_json: bool) -> None:
    """Stream a snapshot into a file, and make it durable."""
    import urllib.error
    import urllib.request

    from waypost.errors import Unavailable

    query = "default" if stale else "linearizable"
    url = f"http://{address.removeprefix('http://').rstrip('/')}/api/v1/snapshot"
    progress = _Progress(as_json)
    try:
        with (
            urllib.request.urlopen(f"{url}?consistency={query}", timeout=_TIMEOUT_S) as answer,
            part.open("wb") as out,
        ):
            while piece := answer.read(_READ_BYTES):
                out.write(piece)
                progress.add(len(piece))
            out.flush()
            os.fsync(out.fileno())
    except urllib.error.HTTPError as error:
        raise Unavailable(_problem(error.read()) or str(error)) from None
    except urllib.error.URLError as error:
        raise Unavailable(
            f"{error.reason}: name the HTTP address of a node with --http or $WAYPOST_HTTP"
        ) from None
    finally:
        progress.end()


def _problem(body: bytes) -> str:
    """The words of a problem document (RFC 9457)."""
    import msgspec

    try:
        told = msgspec.json.decode(body, type=dict[str, object])
    except msgspec.MsgspecError:
        return ""
    return str(told.get("detail", ""))


class _Progress:
    """One line on a terminal, rewritten as bytes arrive."""

    def __init__(self, as_json: bool) -> None:
        self._is_shown = not as_json and sys.stderr.isatty()
        self._bytes = 0
        self._begun = time.monotonic()
        self._told = 0.0

    def add(self, count: int) -> None:
        self._bytes += count
        now = time.monotonic()
        if self._is_shown and now - self._told >= _TELL_EVERY_S:
            self._told = now
            rate = self._bytes / max(now - self._begun, 0.001)
            print(f"\r{_size(self._bytes)}, {_size(int(rate))}/s \x1b[K", end="", file=sys.stderr)

    def end(self) -> None:
        if self._is_shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _print_directory(found: "Directory") -> None:
    from waypost.cli import output

    rows = [
        ("cluster", found.cluster),
        ("node", f"{found.node:08x}"),
        *_epoch_rows("epoch", found.epoch),
        *_epoch_rows("on its way to epoch", found.left),
        ("log", f"{found.first} to {found.last}, committed to {found.commit} at least"),
        ("last entry's ballot", found.last_ballot),
        ("log files", f"{found.segments}, {_size(found.log_bytes)}"),
    ]
    for each in found.snapshots:
        text = each.damage or f"at {each.index}, {_size(each.bytes)}"
        rows.append((each.file, text))
    if found.contents is None:
        rows.append(("holds", "cannot be read"))
    else:
        rows += _contents_rows("holds", found.contents)
    if found.whole is not None:
        rows += _contents_rows("with what may be uncommitted", found.whole)
    if found.unreadable:
        rows.append(("unreadable entries", _ranges(found.unreadable)))
    if found.is_suspect:
        rows.append(("in doubt", "acknowledged writes or promises may be missing"))
    if found.in_use_by:
        note = f"process {found.in_use_by} runs on it: what it is writing now may be seen half"
    else:
        note = ""
    output.print_table(("", found.path), rows, "\n".join([*found.damage, *([note] * bool(note))]))


def _snapshot_rows(told: "SnapshotFile", contents: "Contents | None") -> list[tuple[str, str]]:
    if told.damage:
        return [("size", _size(told.bytes)), ("damage", told.damage)]
    rows = [
        ("size", _size(told.bytes)),
        ("cluster", told.cluster),
        ("index", str(told.index)),
        *_epoch_rows("epoch", told.epoch),
        ("sha256", told.sha256),
    ]
    return rows + ([] if contents is None else _contents_rows("holds", contents))


def _epoch_rows(title: str, epoch: "Told | None") -> list[tuple[str, str]]:
    if epoch is None:
        return []
    members = " ".join(f"{name}={at}" if at else name for name, at in epoch.members.items())
    return [
        (title, f"{epoch.number} ({epoch.engine}, lineage {epoch.lineage})"),
        ("members", members),
    ]


def _contents_rows(title: str, contents: "Contents") -> list[tuple[str, str]]:
    return [(title, _contents_text(contents)), ("digest", contents.digest)]


def _contents_text(contents: "Contents") -> str:
    more = f", {contents.checks} checks" if contents.checks else ""
    if contents.nodes:
        more += f", {contents.nodes} nodes"
    if contents.keys:
        more += f", {contents.keys} keys"
    return (
        f"{contents.services} services, {contents.instances} instances, {contents.sessions} "
        f"sessions{more} as of revision {contents.revision}"
    )


def _ranges(numbers: list[int]) -> str:
    """Numbers in ascending order, runs of them as one."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in runs)


def _size(count: int) -> str:
    for unit, size in (("GB", 1 << 30), ("MB", 1 << 20), ("kB", 1 << 10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"
