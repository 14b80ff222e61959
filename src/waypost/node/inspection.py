"""What a snapshot file or a data directory holds, without changing or starting anything.

A directory is read as a start reads it: the newest whole snapshot, then the log.  What is damaged
is named and not repaired.  ``contents`` is the registry as of the last entry that is known to be
committed; a node with peers may hold more than that, which only its cluster can decide on.
"""

from pathlib import Path

import msgspec

from waypost.catalog.snapshots import digest, load
from waypost.catalog.state import Catalog
from waypost.commands import decode_batch
from waypost.consensus.core import NO_SNAP, Boot
from waypost.consensus.entry import KIND_BATCH, Ballot, Index
from waypost.consensus.epoch import Epoch
from waypost.errors import CorruptData, Invalid, WaypostError
from waypost.storage.heads import SegmentHead, decode_head
from waypost.storage.looking import LookingDisk
from waypost.storage.records import BODY_START
from waypost.storage.restart import find
from waypost.storage.snapshots import Stranger, chunks_of, examine


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """What a registry holds as of a revision."""

    revision: Index
    services: int
    instances: int
    sessions: int
    checks: int
    nodes: int
    keys: int
    digest: str
    """Equal if, and only if, the state is the same; of two nodes as of one revision it must be."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """An epoch, for people and programs."""

    lineage: str
    number: int
    engine: str
    members: dict[str, str]
    """Addresses by name."""
    first: Index


class SnapshotFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file with a snapshot."""

    file: str
    bytes: int
    cluster: str
    index: Index
    epoch: Told | None
    sha256: str
    damage: str
    """Empty if it is whole."""


class Directory(msgspec.Struct, frozen=True, kw_only=True):
    """What one data directory holds."""

    path: str
    cluster: str
    node: int
    in_use_by: str
    """The process that runs on it: what is told may be half-written then."""
    epoch: Told | None
    left: Told | None
    """A newer epoch that it knows of and has not started."""
    snapshots: list[SnapshotFile]
    segments: int
    log_bytes: int
    first: Index
    """The oldest entry of the log after the snapshot."""
    last: Index
    last_ballot: str
    commit: Index
    """At least so much is committed."""
    unreadable: list[Index]
    is_suspect: bool
    """Acknowledged writes or promises may be missing."""
    damage: list[str]
    contents: Contents | None
    """As of the last entry that is known to be committed."""
    whole: Contents | None
    """As of the last entry of the log, committed or not; None if it is the same, or unreadable."""


class Findings(msgspec.Struct, frozen=True):
    """A directory's report, and what it was made from."""

    directory: Directory
    boot: Boot
    cluster: int
    node: int


def inspect_snapshot(path: Path) -> tuple[SnapshotFile, Contents | None]:
    """Read a snapshot's file; what is in it is None if it is damaged."""
    disk = LookingDisk(path.parent)
    told, whole = _examined(disk, path.name)
    if whole is None:
        return told, None
    return told, contents_of(load(chunks_of(disk, path.name)))


def inspect_directory(path: Path) -> Findings:
    """Read a data directory."""
    disk = LookingDisk(path)
    files = disk.names()
    logs = [name for name in files if name.startswith("wal-") and name.endswith(".log")]
    snaps = [name for name in files if name.startswith("snap-") and name.endswith(".snap")]
    if not logs and not snaps:
        raise Invalid(
            f"{path}: there is neither a log nor a snapshot in it: name the --data-dir of a node",
            field="data directory",
        )
    examined = [_examined(disk, name) for name in sorted(snaps, reverse=True)]
    told = [each for each, _ in examined]
    head = _newest_head(disk, logs)
    file, newest = next(
        ((each.file, found) for each, found in examined if found is not None), ("", None)
    )
    cluster, node = _whose(head, newest)
    damage = [f"{each.file}: {each.damage}" for each in told if each.damage]
    boot, notes = _boot(disk, cluster, node, newest)
    log_bytes = sum(map(disk.bytes_of, logs))
    contents = whole = None
    try:
        contents, whole = _states(disk, boot, file)
    except WaypostError as error:
        notes.append(error.message)
    last = boot.entries[-1] if boot.entries else None
    directory = Directory(
        path=str(path),
        cluster=f"{cluster:016x}",
        node=node,
        in_use_by=disk.holder(),
        epoch=_told(boot.epoch),
        left=_told(boot.left),
        snapshots=told,
        segments=len(logs),
        log_bytes=log_bytes,
        first=boot.snap.index + 1,
        last=boot.snap.index if last is None else last.index,
        last_ballot=ballot_text(boot.snap.ballot if last is None else last.ballot),
        commit=boot.hard.commit,
        unreadable=list(boot.faulty),
        is_suspect=boot.suspect,
        damage=[*damage, *notes],
        contents=contents,
        whole=whole,
    )
    return Findings(directory, boot, cluster, node)


def is_alone(epoch: Epoch | None) -> bool:
    """Whether no other node has a say: what is in the log of such a node is committed."""
    return epoch is None or len(epoch.members) == 1


def ballot_text(ballot: Ballot) -> str:
    """A ballot as epoch.round.node."""
    return f"{ballot.epoch}.{ballot.round}.{ballot.node:x}"


def catalog_at(disk: LookingDisk, file: str, boot: Boot, upto: Index) -> Catalog:
    """The registry after a snapshot's file, if there is one, and the entries up to ``upto``."""
    unreadable = next((index for index in boot.faulty if index <= upto), None)
    if unreadable is not None:
        raise CorruptData(f"entry {unreadable} is unreadable: what follows is not known")
    catalog = load(chunks_of(disk, file)) if file else Catalog()
    for entry in boot.entries:
        if entry.index > upto:
            break
        if entry.kind == KIND_BATCH and len(entry.payload):
            catalog.apply(entry.index, decode_batch(entry.payload))
    return catalog


def _states(disk: LookingDisk, boot: Boot, file: str) -> tuple[Contents, Contents | None]:
    last = boot.entries[-1].index if boot.entries else boot.snap.index
    known = last if is_alone(boot.epoch) else boot.hard.commit
    contents = contents_of(catalog_at(disk, file, boot, known))
    if known >= last:
        return contents, None
    return contents, contents_of(catalog_at(disk, file, boot, last))


def _boot(
    disk: LookingDisk, cluster: int, node: int, newest: Stranger | None
) -> tuple[Boot, list[str]]:
    try:
        found = find(
            disk,
            cluster=cluster,
            node=node,
            snap=NO_SNAP if newest is None else newest.snap,
            snap_epoch=None if newest is None else newest.epoch,
            has_peers=True,
            accept_data_loss=False,
        )
    except CorruptData as error:
        snap = NO_SNAP if newest is None else newest.snap
        return Boot(snap=snap, left=None if newest is None else newest.epoch), [error.message]
    return found.boot, list(found.notes)


def _newest_head(disk: LookingDisk, logs: list[str]) -> SegmentHead | None:
    for name in reversed(logs):
        file = disk.open(name)
        try:
            head = decode_head(disk.read(file, 0, BODY_START))
        finally:
            disk.close(file)
        if head is not None:
            return head
    return None


def _whose(head: SegmentHead | None, newest: Stranger | None) -> tuple[int, int]:
    if head is not None:
        return head.cluster, head.node
    return (0, 0) if newest is None else (newest.cluster, newest.node)


def _examined(disk: LookingDisk, name: str) -> tuple[SnapshotFile, Stranger | None]:
    size = disk.bytes_of(name)
    try:
        found = examine(disk, name)
    except CorruptData as error:
        damaged = SnapshotFile(
            file=name,
            bytes=size,
            cluster="",
            index=0,
            epoch=None,
            sha256="",
            damage=error.message.removeprefix(f"{name}: "),
        )
        return damaged, None
    told = SnapshotFile(
        file=name,
        bytes=size,
        cluster=f"{found.cluster:016x}",
        index=found.snap.index,
        epoch=_told(found.epoch),
        sha256=found.sha256,
        damage="",
    )
    return told, found


def contents_of(catalog: Catalog) -> Contents:
    """Count what a catalog holds."""
    return Contents(
        revision=catalog.revision,
        services=catalog.service_count,
        instances=catalog.instance_count,
        sessions=len(catalog.sessions),
        checks=catalog.checks.count,
        nodes=len(catalog.nodes.entries),
        keys=len(catalog.keyspace.keys),
        digest=digest(catalog).hex(),
    )


def _told(epoch: Epoch | None) -> Told | None:
    if epoch is None:
        return None
    members = {peer.name or f"{nid:x}": peer.address for nid, peer in epoch.members.items()}
    return Told(
        lineage=f"{epoch.lineage:016x}",
        number=epoch.number,
        engine=epoch.engine,
        members=members,
        first=epoch.first,
    )
