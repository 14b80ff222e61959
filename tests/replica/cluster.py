"""A few members in a box: virtual time, a network under the test's hand, disks that lose a suffix.

Every write is on its disk's queue until the test makes it durable; a crash keeps any prefix of what
is queued, whole writes only (D3).  What each node's state machine was given is kept, and compared
with what every other was given: one log there is.
"""

import random
from collections.abc import Callable

from waypost.consensus.core import (
    FOREVER,
    KIND_SEAL,
    NO_SNAP,
    Ballot,
    Boot,
    Core,
    Done,
    Entry,
    Hard,
    Nid,
    Ns,
    Snap,
    Token,
    Write,
)
from waypost.consensus.entry import parse
from waypost.consensus.epoch import Epoch, Peer
from waypost.consensus.outside import Ask, OutsideCore
from waypost.consensus.settings import LAN
from waypost.consensus.solo import SoloCore
from waypost.replica.member import Member, MemberStatus
from waypost.replica.peer_messages import PeerMessage, decode_message, encode_message

LINEAGE = 0xABC
MS = 1_000_000


class Disk:
    """What is durable, and what is queued."""

    def __init__(self) -> None:
        self.boot = Boot()
        self.queue: list[Write] = []
        self.snapshots: dict[int, tuple[Snap, Epoch, tuple[bytes, ...]]] = {}

    def sync(self, count: int | None = None) -> int:
        """Make queued writes durable; returns the number of the last one."""
        count = len(self.queue) if count is None else count
        seq = 0
        for write in self.queue[:count]:
            self.boot = after_write(self.boot, write)
            seq = write.seq
        del self.queue[:count]
        return seq


def after_write(boot: Boot, write: Write) -> Boot:
    """What is on disk after one more write."""
    entries, snap, hard = list(boot.entries), boot.snap, boot.hard
    epoch, left = boot.epoch, boot.left
    if write.left is not None:
        left = write.left
    if write.truncate is not None:
        assert snap.index < write.truncate <= snap.index + len(entries) + 1
        del entries[write.truncate - snap.index - 1 :]
    for entry in write.entries:
        assert entry.index == snap.index + len(entries) + 1, (entry.index, snap, len(entries))
        entries.append(entry)
    if write.snap is not None and write.snap.index > snap.index:
        del entries[: write.snap.index - snap.index]
        snap = write.snap
    if write.epoch is not None:
        epoch = write.epoch
    if write.hard is not None:
        hard = write.hard
    hard = Hard(hard.promised, hard.accepted, max(hard.commit, snap.index), hard.suspect)
    if left is not None and epoch is not None and left.number <= epoch.number:
        left = None
    return Boot(hard, snap, tuple(entries), (), epoch, left)


class Node:
    """A member, its disk, and what it gave to its state machine."""

    def __init__(self, cluster: "Cluster", nid: Nid) -> None:
        self.cluster = cluster
        self.nid = nid
        self.disk = Disk()
        self.is_up = True
        self.is_retired = False
        self.start()

    def start(self) -> None:
        snap = self.disk.boot.snap
        self.applied: list[bytes] = []
        if snap.index:
            self.applied = list(self.disk.snapshots[snap.index][2])
        self.is_up = True
        self.done: dict[Token, Done] = {}
        self.reads: dict[Token, int] = {}
        self.reads_failed: set[Token] = set()
        self.statuses: list[MemberStatus] = []
        self.member = Member(
            self.nid,
            self.disk.boot,
            lineage=LINEAGE,
            applied=snap.index,
            now=self.cluster.now,
            make_core=self._make_core,
            draw=self.cluster.rng.random,
            settings=LAN,
        )

    def _make_core(self, epoch: Epoch, boot: Boot, may_lead_first: bool) -> Core:
        return self.cluster.make_core(self.nid, epoch, boot, may_lead_first)

    @property
    def status(self) -> MemberStatus:
        return self.member.status

    def crash(self, kept: int) -> None:
        """The power goes: the first ``kept`` of the queued writes survive."""
        self.disk.sync(kept)
        self.disk.queue.clear()
        self.is_up = False

    def drain(self) -> None:
        """Do what the member asks for."""
        cluster = self.cluster
        while (step := self.member.ready()) is not None:
            if step.restore is not None:
                self.applied = list(self.disk.snapshots[step.restore.index][2])
            if step.write is not None:
                self.disk.queue.append(step.write)
            for to, message in step.send:
                assert to != self.nid
                cluster.send(self.nid, to, message)
            for entry in step.entries:
                self._apply(entry)
            if step.entries or step.restore is not None:
                self.member.applied(cluster.now, len(self.applied))
            for done in step.done:
                assert done.token not in self.done
                self.done[done.token] = done
                if done.what == "committed":
                    cluster.acknowledged(self, done)
            for token, index in step.reads:
                assert index <= len(self.applied), "a read was confirmed above what is applied"
                self.reads[token] = index
                cluster.read_served(token, index)
            self.reads_failed.update(step.reads_failed)
            for to, index in step.send_snapshot:
                cluster.send_snapshot(self, to, index)
            if step.status is not None:
                self.statuses.append(step.status)
            self.is_retired = self.is_retired or step.retired
        cluster.outside.ask(self)

    def _apply(self, entry: Entry) -> None:
        assert entry.index == len(self.applied) + 1, "entries come in order, each once"
        self.applied.append(entry.frame)
        self.cluster.committed(self, entry)

    def sync(self, count: int | None = None) -> None:
        """Queued writes become durable, and the member hears of it."""
        seq = self.disk.sync(count)
        if seq:
            self.member.persisted(self.cluster.now, seq)
        self.drain()

    def snapshot(self) -> None:
        """Take a snapshot of what is applied, if all of that is durable."""
        index = len(self.applied)
        if index > self.status.durable or index <= self.disk.boot.snap.index:
            return
        snap = self.member.snap(index)
        self.disk.snapshots[index] = (snap, self.status.epoch, tuple(self.applied))
        self.member.compact(snap)
        self.drain()


class Outside:
    """Logs that are kept outside, one for each such epoch; each of its members speaks with it.

    What is asked arrives one at a time, in each node's order, and what is told too; a network of
    ours that is cut changes nothing for it.
    """

    def __init__(self, cluster: "Cluster") -> None:
        self.cluster = cluster
        self.logs: dict[tuple[int, Ballot], list[tuple[int, bytes, OutsideCore | None, int]]] = {}
        self.parts: dict[Nid, tuple[Epoch, OutsideCore]] = {}
        self.asked: dict[Nid, list[tuple[Epoch, OutsideCore, Ask]]] = {}
        self.reads: list[tuple[Nid, OutsideCore, int, int]] = []

    def make(self, nid: Nid, epoch: Epoch, boot: Boot) -> OutsideCore:
        core = OutsideCore(nid, epoch, boot, now=self.cluster.now, settings=LAN)
        self.parts[nid] = epoch, core
        self.logs.setdefault((epoch.number, epoch.seal_ballot), [])
        return core

    def _is_current(self, nid: Nid, core: OutsideCore) -> bool:
        node = self.cluster.nodes[nid]
        return node.is_up and node.member._log.core is core

    def ask(self, node: Node) -> None:
        """A node has said what it wants."""
        if node.nid in self.parts:
            epoch, core = self.parts[node.nid]
            asked = self.asked.setdefault(node.nid, [])
            asked += [(epoch, core, ask) for ask in core.asked()]

    def put(self, nid: Nid) -> bool:
        """What a node asked for first arrives."""
        if not self.asked.get(nid):
            return False
        epoch, core, ask = self.asked[nid].pop(0)
        log = self.logs[epoch.number, epoch.seal_ballot]
        if ask.kind is None:
            self.reads.append((nid, core, ask.number, epoch.first - 1 + len(log)))
        elif not (log and log[-1][0] == KIND_SEAL):
            log.append((ask.kind, ask.payload, core, ask.number))
        elif self._is_current(nid, core):
            core.answered(self.cluster.now, ask.number, "refused")
            self._told(nid)
        return True

    def tell(self, nid: Nid) -> bool:
        """A node hears of the next entry, or that it has heard enough for a read."""
        if nid not in self.parts or not self._is_current(nid, self.parts[nid][1]):
            return False
        epoch, core = self.parts[nid]
        now = self.cluster.now
        for position, (asker, reader, number, index) in enumerate(self.reads):
            if asker == nid and reader is core and core.last >= index:
                del self.reads[position]
                core.confirmed(now, number)
                self._told(nid)
                return True
        log = self.logs[epoch.number, epoch.seal_ballot]
        position = core.last - epoch.first + 1
        if position == len(log):
            return False
        kind, payload, by, number = log[position]
        core.entry(now, core.last + 1, kind, payload, number if by is core else 0)
        self._told(nid)
        return True

    def _told(self, nid: Nid) -> None:
        node = self.cluster.nodes[nid]
        node.member.told(self.cluster.now)
        node.drain()

    def act(self) -> bool:
        """Let one thing happen that is due; False when nothing is."""
        return any(self.put(nid) or self.tell(nid) for nid in list(self.parts))


class Cluster:
    """See the module."""

    def __init__(
        self,
        seed: int = 0,
        make_core: Callable[["Cluster", Nid, Epoch, Boot, bool], Core] | None = None,
    ) -> None:
        self.rng = random.Random(seed)
        self.now: Ns = 0
        self.nodes: dict[Nid, Node] = {}
        self.sent: list[tuple[Nid, Nid, PeerMessage]] = []
        """All that was ever said."""
        self.wires: list[tuple[Nid, Nid, bytes]] = []
        self.snapshots_under_way: list[tuple[Nid, Nid, int]] = []
        self.log: list[bytes] = []
        """What was committed, as anyone saw it first."""
        self.kinds: list[tuple[int, int]] = []
        """Kind and epoch of each entry of the log."""
        self.acked: dict[Token, int] = {}
        self.reads_begun: dict[Token, int] = {}
        self.cut: set[frozenset[Nid]] = set()
        self.outside = Outside(self)
        self._make = make_core
        self._last_token = 0

    def make_core(self, nid: Nid, epoch: Epoch, boot: Boot, may_lead_first: bool) -> Core:
        if self._make is not None:
            return self._make(self, nid, epoch, boot, may_lead_first)
        assert epoch.engine == "local"
        return SoloCore(nid, boot)

    def add(self, *nids: Nid) -> None:
        for nid in nids:
            self.nodes[nid] = Node(self, nid)

    def token(self) -> Token:
        self._last_token += 1
        return self._last_token

    # What is always to be true

    def committed(self, node: Node, entry: Entry) -> None:
        index = entry.index
        if index <= len(self.log):
            assert self.log[index - 1] == entry.frame, f"two entries at {index}"
            return
        assert index == len(self.log) + 1, f"a hole before {index}"
        epoch, before = entry.ballot.epoch, self.kinds[-1] if self.kinds else (0, 0)
        if before[0] == KIND_SEAL:
            assert epoch == before[1] + 1, f"entry {index} after the Seal of its epoch"
        elif before[1]:
            assert epoch == before[1], f"entry {index} is of an epoch that has not begun"
        self.log.append(entry.frame)
        self.kinds.append((entry.kind, epoch))

    def acknowledged(self, node: Node, done: Done) -> None:
        assert 0 < done.index <= len(self.log), "acknowledged, and nobody applied it"
        self.acked[done.token] = done.index

    def read_served(self, token: Token, index: int) -> None:
        assert index >= self.reads_begun[token], "a read missed what was acknowledged before it"

    # The network

    def send(self, src: Nid, to: Nid, message: PeerMessage) -> None:
        self.sent.append((src, to, message))
        if to in self.nodes:
            self.wires.append((src, to, encode_message(message)))

    def deliver(self, position: int = 0, *, keep: bool = False) -> None:
        src, to, data = self.wires[position] if keep else self.wires.pop(position)
        node = self.nodes[to]
        if node.is_up and frozenset((src, to)) not in self.cut:
            node.member.receive(self.now, src, decode_message(data))
            node.drain()

    def send_snapshot(self, node: Node, to: Nid, index: int) -> None:
        self.snapshots_under_way.append((node.nid, to, index))

    def deliver_snapshot(self, position: int = 0) -> None:
        src, to, index = self.snapshots_under_way.pop(position)
        sender, receiver = self.nodes[src], self.nodes[to]
        ok = sender.is_up and receiver.is_up and frozenset((src, to)) not in self.cut
        if ok:
            newest = max(sender.disk.snapshots)
            snap, epoch, state = sender.disk.snapshots[newest]
            receiver.disk.snapshots[newest] = (snap, epoch, state)
            receiver.member.snapshot_staged(self.now, src, snap, epoch)
            receiver.drain()
        if sender.is_up:
            sender.member.snapshot_sent(self.now, to, index, ok=ok)
            sender.drain()

    # Running

    def tick(self, node: Node) -> None:
        if node.is_up and self.now >= node.member.deadline:
            node.member.tick(self.now)
        if node.is_up:
            node.drain()

    def run(self, ms: int, *, until: Callable[[], bool] | None = None) -> None:
        """Let everything happen, without faults, for a while."""
        end = self.now + ms * MS
        for node in self.up():
            node.drain()
        is_there = until if until is not None else lambda: False
        while self.now < end and not is_there():
            while self._act():
                if is_there():
                    return
            deadlines = [node.member.deadline for node in self.up()]
            due = max(min(deadlines, default=FOREVER), self.now + MS)
            self.now = min(due, self.now + 100 * MS, end)
            for node in self.up():
                self.tick(node)

    def _act(self) -> bool:
        """Let one thing happen that is due; False when nothing is."""
        if self.wires:
            self.deliver()
        elif self.snapshots_under_way:
            self.deliver_snapshot()
        elif self.outside.act():
            pass
        else:
            node = next((node for node in self.up() if node.disk.queue), None)
            if node is None:
                return False
            node.sync()
        return True

    def up(self) -> list[Node]:
        return [node for node in self.nodes.values() if node.is_up]

    # Clients

    def cut_off(self, nid: Nid, *but: Nid) -> None:
        """Cut a node off from all others, or from all but some."""
        self.cut |= {frozenset((nid, other)) for other in self.nodes if other not in (nid, *but)}

    def payloads(self) -> list[bytes]:
        """What was committed."""
        return [bytes(parse(frame).payload) for frame in self.log]

    def found(self, engine: str, *nids: Nid, first_leader: Nid = 0) -> None:
        """Begin: the first epoch is told to its members."""
        epoch = Epoch(LINEAGE, 1, engine, members(*nids), 1, first_leader or nids[0])
        for nid in nids:
            self.nodes[nid].member.found(self.now, epoch)
            self.nodes[nid].drain()
            self.nodes[nid].sync()

    def append(self, nid: Nid, payload: bytes = b"x") -> Token:
        token = self.token()
        self.nodes[nid].member.append(self.now, payload, token)
        self.nodes[nid].drain()
        return token

    def read(self, nid: Nid) -> Token:
        token = self.token()
        self.reads_begun[token] = max(self.acked.values(), default=0)
        self.nodes[nid].member.read(self.now, token)
        self.nodes[nid].drain()
        return token

    def change(self, nid: Nid, engine: str, *nids: Nid, first_leader: Nid = 0) -> Token:
        token = self.token()
        node = self.nodes[nid]
        node.member.change(self.now, engine, members(*nids), first_leader, {}, token)
        node.drain()
        return token

    def leader(self) -> Nid:
        """Who leads the newest epoch that anybody leads; 0: nobody."""
        leading = [
            (node.status.ballot, node.nid) for node in self.up() if node.status.role == "leader"
        ]
        return max(leading)[1] if leading else 0


def members(*nids: Nid) -> dict[Nid, Peer]:
    """Who votes, with names and addresses."""
    return {nid: Peer(f"n{nid}", f"10.0.0.{nid}:8300") for nid in nids}


__all__ = ["LINEAGE", "MS", "NO_SNAP", "Cluster", "Disk", "Node", "members"]
