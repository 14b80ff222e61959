"""After a majority is lost for good: begin again from what the survivors hold.

An operator's last resort, on stopped processes.  Of the directories offered, the one with the most
up-to-date log is taken (by its epoch, the ballot of its last entry, and its length): it holds
everything that any of them knows to be committed.  What is written into it is a *forced epoch*: its
members are the survivors that hold that very log, its number is higher than any before, and its
lineage is new, so that no message and no node of the old history is ever taken for one of this.

What may be lost: writes that a majority acknowledged and no survivor holds.  What may be gained:
writes that were never acknowledged.  Neither can be known here; that is why a person is asked.
"""

import secrets
from collections.abc import Sequence
from pathlib import Path

import msgspec

from waypost.consensus.core import NO_BALLOT, Hard, Write
from waypost.consensus.entry import KIND_SEAL, Ballot, Entry, Index
from waypost.consensus.epoch import Epoch
from waypost.errors import CorruptData, Invalid
from waypost.node.inspection import Findings, inspect_directory, is_alone
from waypost.storage.disk import RealDisk
from waypost.storage.snapshots import SnapshotStore
from waypost.storage.wal import Wal

REPLACES_ETCD = "raft"
"""What survivors go on with by themselves, if their log was in an etcd that is lost."""


class Survivor(msgspec.Struct, frozen=True):
    """One directory, and what becomes of it."""

    path: Path
    findings: Findings
    name: str
    is_taken: bool
    """Whether it becomes a member of the forced epoch."""
    why: str
    """Why not, and what to do with it."""
    dropped: int
    """Entries of its log that the forced epoch does not have."""


class Recovery(msgspec.Struct, frozen=True):
    """What is to be written, and where."""

    survivors: list[Survivor]
    epoch: Epoch
    last: Index
    """The last entry that is kept."""
    surely: Index
    """Up to here it is known that everything was committed."""
    members_before: int
    is_needed: bool
    """False if those that survive are a majority: then they only need to be started.  Where the
    log is in an etcd nobody can tell by the directories."""


def plan(paths: Sequence[Path], *, engine: str = "") -> Recovery:
    """Look into the directories, and say what a recovery from them would be."""
    found = [(path, inspect_directory(path)) for path in paths]
    _check_kinship(found)
    best = max((each for _, each in found), key=_freshness)
    if best.directory.unreadable or best.directory.is_suspect or best.directory.contents is None:
        raise CorruptData(
            f"{best.directory.path}: it has the newest log, and cannot be read whole "
            f"({'; '.join(best.directory.damage) or 'promises are in doubt'}): leave it out to go "
            "on from an older one, or restore a backup"
        )
    now = best.boot.epoch
    if now is None:
        raise Invalid(
            f"{best.directory.path}: it has not begun any epoch: restore a backup instead",
            field="data directory",
        )
    last = _last_kept(best)
    tail = _entry_at(best, last)
    survivors = [_judge(path, each, best, last) for path, each in found]
    taken = {each.findings.node for each in survivors if each.is_taken}
    epoch = Epoch(
        secrets.randbits(63) | 1,
        max(_newest_number(each) for _, each in found) + 1,
        engine or (REPLACES_ETCD if now.engine == "etcd" else now.engine),
        {nid: peer for nid, peer in now.members.items() if nid in taken},
        last + 1,
        0,
        best.boot.snap.ballot if tail is None else tail.ballot,
        {},
        {},
    )
    alive = sum(nid in now.members for nid in (each.node for _, each in found))
    commits = [each.boot.hard.commit for _, each in found]
    surely = last if is_alone(now) else min(max(commits), last)
    return Recovery(
        survivors=survivors,
        epoch=epoch,
        last=last,
        surely=surely,
        members_before=len(now.members),
        is_needed=2 * alive <= len(now.members) or now.engine == "etcd",
    )


def force(recovery: Recovery) -> None:
    """Write the epoch into every directory that is taken, each in one atomic write."""
    epoch = recovery.epoch
    number = epoch.number
    hard = Hard(Ballot(number, 0, 0), Ballot(number, 0, 0), recovery.last)
    for survivor in recovery.survivors:
        if not survivor.is_taken:
            continue
        found = survivor.findings
        disk = RealDisk(survivor.path)
        try:
            newest = SnapshotStore(disk, cluster=found.cluster, node=found.node).newest()
            wal, boot = Wal.open(
                disk,
                cluster=found.cluster,
                node=found.node,
                snap=None if newest is None else newest.snap,
                snap_epoch=None if newest is None else newest.epoch,
                has_peers=True,
            )
            last = boot.entries[-1].index if boot.entries else boot.snap.index
            cut = recovery.last + 1 if last > recovery.last else None
            wal.write([Write(1, hard=hard, truncate=cut, epoch=epoch)])
            wal.close()
        finally:
            disk.shut()


def _check_kinship(found: Sequence[tuple[Path, Findings]]) -> None:
    clusters = {each.directory.cluster for _, each in found}
    if len(clusters) > 1:
        raise Invalid(
            f"data directories: they are of {len(clusters)} clusters, {', '.join(clusters)}: name "
            "those of one",
            field="data directory",
        )
    if len({each.node for _, each in found}) < len(found):
        raise Invalid(
            "data directories: two of them are of the same node, one is a copy: leave one out",
            field="data directory",
        )
    for path, each in found:
        if each.directory.in_use_by:
            raise Invalid(
                f"{path}: process {each.directory.in_use_by} runs on it: stop every node first",
                field="data directory",
            )


def _freshness(found: Findings) -> tuple[int, Ballot, Index]:
    boot = found.boot
    number = 0 if boot.epoch is None else boot.epoch.number
    last = boot.entries[-1] if boot.entries else None
    if last is None:
        return number, boot.snap.ballot, boot.snap.index
    return number, last.ballot, last.index


def _newest_number(found: Findings) -> int:
    known = [epoch.number for epoch in (found.boot.epoch, found.boot.left) if epoch is not None]
    return max(known, default=0)


def _last_kept(best: Findings) -> Index:
    """The end of its log, or the first Seal of its epoch: nothing after that may be applied."""
    epoch = best.boot.epoch
    assert epoch is not None
    for entry in best.boot.entries:
        if entry.kind == KIND_SEAL and entry.ballot.epoch == epoch.number:
            return entry.index
    return best.directory.last


def _entry_at(found: Findings, index: Index) -> Entry | None:
    offset = index - found.boot.snap.index - 1
    return found.boot.entries[offset] if 0 <= offset < len(found.boot.entries) else None


def _identity_at(found: Findings, index: Index) -> tuple[Ballot, int] | None:
    """What tells an entry, and all before it, from every other; None if it is not held."""
    if index == found.boot.snap.index:
        snap = found.boot.snap
        return (snap.ballot, snap.chain) if snap.ballot != NO_BALLOT else None
    entry = _entry_at(found, index)
    return None if entry is None or not entry.frame else (entry.ballot, entry.chain)


def _judge(path: Path, found: Findings, best: Findings, last: Index) -> Survivor:
    epoch = best.boot.epoch
    assert epoch is not None
    peer = epoch.members.get(found.node)
    name = f"{found.node:08x}" if peer is None else peer.name
    dropped = max(found.directory.last - _shared(found, best, last), 0)
    why = ""
    if peer is None:
        why = "it was no voting member"
    elif found.directory.unreadable or found.directory.is_suspect:
        why = "part of it cannot be read"
    elif found is not best and _identity_at(found, last) != _identity_at(best, last):
        why = f"it does not hold the log up to {last}"
    if why:
        why += ": empty it, and start that node with --join"
    return Survivor(path, found, name, not why, why, dropped)


def _shared(found: Findings, best: Findings, last: Index) -> Index:
    """Up to where its log is that of the best one."""
    for index in range(min(found.directory.last, last), found.boot.snap.index, -1):
        mine = _identity_at(found, index)
        if mine is not None and mine == _identity_at(best, index):
            return index
    return min(found.boot.snap.index, last)
