"""A new data directory from the file of a snapshot.

A restored directory is a cluster of one with a name, a node id and a lineage of its own: it goes on
from the backup's revision, and no node, client cache or log of the old cluster is taken for its
kin.  It appears at once: until everything in it is durable, it has another name.
"""

import os
import secrets
import shutil
from pathlib import Path

import msgspec

from waypost.catalog.snapshots import dump, load
from waypost.catalog.state import Catalog
from waypost.consensus.core import NO_BALLOT, Hard, Snap, Write
from waypost.consensus.entry import KIND_BATCH, Ballot
from waypost.consensus.epoch import Epoch, Peer
from waypost.errors import Invalid
from waypost.node.identity import Identity, check_node_name, draw_nid, write_identity
from waypost.node.inspection import Contents, contents_of
from waypost.storage.disk import RealDisk
from waypost.storage.looking import LookingDisk
from waypost.storage.snapshots import SnapshotStore, chunks_of, examine
from waypost.storage.wal import Wal


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What a restore made."""

    data_dir: str
    name: str
    cluster: str
    from_cluster: str
    contents: Contents


def restore(source: Path, data_dir: Path, *, name: str) -> Restored:
    """Make a data directory from a snapshot's file; raises ``Invalid`` unless it is empty."""
    check_node_name(name)
    if data_dir.exists() and (not data_dir.is_dir() or any(data_dir.iterdir())):
        raise Invalid(
            f"data directory: {data_dir} is not empty: name a new one, so that nothing is lost",
            field="data directory",
        )
    if not source.is_file():
        raise Invalid(f"{source}: no such file: name one that 'snapshot save' made", field="file")
    disk = LookingDisk(source.parent)
    stranger = examine(disk, source.name)
    catalog = load(chunks_of(disk, source.name))
    _adopt_sessions(catalog, name)
    making = data_dir.absolute().with_name(f".{data_dir.name}.restoring")
    if making.exists():
        shutil.rmtree(making)  # of a restore that was interrupted
    making.parent.mkdir(parents=True, exist_ok=True)
    cluster = secrets.token_hex(8)
    _fill(making, catalog, Snap(stranger.snap.index, NO_BALLOT, KIND_BATCH, 0), cluster, name)
    making.rename(data_dir)
    _sync_directory(data_dir.absolute().parent)
    return Restored(
        data_dir=str(data_dir),
        name=name,
        cluster=cluster,
        from_cluster=f"{stranger.cluster:016x}",
        contents=contents_of(catalog),
    )


def _adopt_sessions(catalog: Catalog, name: str) -> None:
    """Let the new node answer for every session: each has a full lease to come back."""
    for session in list(catalog.sessions):
        catalog.sessions.put(msgspec.structs.replace(session, node=name))


def _fill(path: Path, catalog: Catalog, snap: Snap, cluster: str, name: str) -> None:
    number, nid = int(cluster, 16), draw_nid()
    epoch = Epoch(number, 1, "local", {nid: Peer(name, "")}, snap.index + 1, nid)
    disk = RealDisk(path)
    try:
        writer = SnapshotStore(disk, cluster=number, node=nid).begin(snap, epoch)
        for chunk in dump(catalog):
            writer.add(chunk)
        writer.finish()
        # There is no log yet, which is a loss to any start but this one.
        wal, _ = Wal.open(disk, cluster=number, node=nid, snap=snap, accept_data_loss=True)
        wal.write([Write(1, snap=snap, epoch=epoch, hard=Hard(Ballot(1, 0, 0), commit=snap.index))])
        wal.close()
        write_identity(disk, Identity(cluster=cluster, node=name, nid=nid, epoch=epoch))
    finally:
        disk.shut()


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
