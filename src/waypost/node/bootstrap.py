"""Builds a node: the one place that chooses a consensus core and opens a data directory.

What a data directory holds is decided by it alone: its identity (cluster, node id and name) is
written once, and a node with another name is refused rather than mixed in.  A directory that has no
cluster yet finds or founds one (``genesis``) before anything else is written into it.
"""

import logging
import random
import secrets
import time
from collections.abc import Callable
from typing import Final

import msgspec

from waypost.catalog.snapshots import load
from waypost.catalog.state import Catalog
from waypost.consensus.core import Boot, Core
from waypost.consensus.epoch import Epoch, Peer
from waypost.consensus.paxos import PaxosCore
from waypost.consensus.raft import RaftCore
from waypost.consensus.replicated import ReplicatedCore
from waypost.consensus.settings import LAN, Settings
from waypost.consensus.solo import SoloCore
from waypost.errors import Invalid
from waypost.node.cluster import Cluster
from waypost.node.etcd.epochs import EtcdEpochs
from waypost.node.etcd.settings import NO_GRPC, EtcdSettings
from waypost.node.genesis import Belonging, Machine, belong
from waypost.node.identity import (
    SOLO_NID,
    Identity,
    check_node_name,
    draw_nid,
    read_identity,
    write_identity,
)
from waypost.node.member_engine import MemberEngine
from waypost.node.member_time import MemberTime
from waypost.node.node import Node
from waypost.node.outside import Outside, Self
from waypost.node.own_snapshots import Storage
from waypost.replica.member import Member
from waypost.storage.disk import Disk, RealDisk
from waypost.storage.snapshots import SnapshotStore
from waypost.storage.wal import Wal
from waypost.transport.peer_frames import PEER_VERSION, PeerHello
from waypost.transport.port import NativePort

log = logging.getLogger("waypost.node")

ALONE: Final = "local"
OUTSIDE: Final = "etcd"
REPLICATED: Final[dict[str, type[ReplicatedCore]]] = {"raft": RaftCore, "paxos": PaxosCore}


class NodeConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What a node is told at its start."""

    name: str = "local"
    data_dir: str = ""
    """Where its log and snapshots are; empty keeps everything in memory."""
    accept_data_loss: bool = False
    """Start from a damaged log, without what cannot be read."""
    address: str = ""
    """Where others reach its native port; empty for a node that nobody joins."""
    line: dict[str, str] = {}
    """The machines that found a cluster together, by name, with their addresses: ``--cluster``."""
    seeds: tuple[str, ...] = ()
    """Nodes of the cluster to join: ``--join``."""
    follows_only: bool = False
    """Join without a vote: a learner, until ``waypost cluster add``."""
    engine: str = "raft"
    """Of a cluster that is founded now."""
    settings: Settings = LAN
    etcd: EtcdSettings | None = None
    """Where the log is kept, for a node that keeps nothing itself."""
    etcd_access: EtcdSettings = EtcdSettings(endpoints=())
    """How a node with a disk gets into an etcd, when its cluster goes there: no endpoints yet."""


async def open_node(
    config: NodeConfig,
    *,
    disk: Disk | None = None,
    port: NativePort | None = None,
    clock: Callable[[], int] = time.monotonic_ns,
    on_fatal: Callable[[BaseException], None],
) -> Node:
    """Recover what the data directory holds, and take part in its cluster.

    ``disk`` stands for the data directory where it is given: a simulated one, in a test.
    ``port`` is the native port, on which a cluster is found before the doors open.

    Raises ``CorruptData`` for damage that this node cannot repair, ``Invalid`` for a configuration
    that cannot be.
    """
    _check(config)
    if config.etcd is not None:
        return await _open_over_etcd(config, config.etcd, clock, on_fatal)
    shut: Callable[[], None] = _nothing
    if disk is None and config.data_dir:
        real = RealDisk(config.data_dir)
        disk, shut = real, real.shut
    if disk is None:
        return _node_in_memory(config, clock, on_fatal)
    try:
        identity = await _identity(config, disk, port)
        return _open(config, identity, disk, shut, clock, on_fatal)
    except BaseException:
        shut()
        raise


async def _open_over_etcd(
    config: NodeConfig,
    etcd: EtcdSettings,
    clock: Callable[[], int],
    on_fatal: Callable[[BaseException], None],
) -> Node:
    try:
        from waypost.node.etcd.engine import open_etcd_node
    except ImportError as error:
        if error.name != "grpc":
            raise
        raise Invalid(NO_GRPC, field="etcd") from None
    return await open_etcd_node(
        etcd,
        config.name,
        address=config.address,
        clock=clock,
        accept_data_loss=config.accept_data_loss,
        on_fatal=on_fatal,
    )


def _nothing() -> None:
    """Do nothing."""


def _check(config: NodeConfig) -> None:
    for name in (config.name, *config.line):
        check_node_name(name)
    if config.line and config.name not in config.line:
        raise Invalid(
            f"cluster: {config.name!r} is not among {', '.join(config.line)}: name this node too",
            field="cluster",
        )
    if (config.line or config.seeds) and not config.data_dir:
        raise Invalid(
            "data directory: a member of a cluster keeps its promises on disk: name a directory",
            field="data directory",
        )


def make_core(
    me: int, epoch: Epoch, boot: Boot, *, may_lead_first: bool, now: int, settings: Settings
) -> Core:
    """Make the core that an epoch asks for."""
    if epoch.engine == ALONE:
        return SoloCore(me, boot)
    kind = REPLICATED.get(epoch.engine)
    if kind is None:
        raise Invalid(
            f"engine: {epoch.engine!r} of epoch {epoch.number} is not known to this version: "
            "upgrade this node",
            field="engine",
        )
    return kind(
        me,
        epoch,
        boot,
        now=now,
        may_lead_first=may_lead_first,
        settings=settings,
        draw=random.random,
    )


def _node_in_memory(
    config: NodeConfig, clock: Callable[[], int], on_fatal: Callable[[BaseException], None]
) -> Node:
    node = Node(config.name, secrets.token_hex(8), Catalog(), clock=clock)
    node.start(engine_in_memory(node, on_fatal))
    return node


def engine_in_memory(node: Node, on_fatal: Callable[[BaseException], None]) -> MemberEngine:
    """The log of a node that keeps nothing; it has begun when this returns."""
    lineage = int(node.cluster, 16)
    boot = Boot(epoch=_alone(lineage, SOLO_NID, node.name))
    config = NodeConfig(name=node.name)
    moment = MemberTime(node.clock)
    engine = _engine(config, boot, SOLO_NID, lineage, 0, None, node, moment, None, on_fatal)
    engine.start()
    return engine


def _open(
    config: NodeConfig,
    identity: Identity,
    disk: Disk,
    shut: Callable[[], None],
    clock: Callable[[], int],
    on_fatal: Callable[[BaseException], None],
) -> Node:
    me, lineage = identity.nid, int(identity.cluster, 16)
    snapshots = SnapshotStore(disk, cluster=lineage, node=me)
    newest = snapshots.newest()
    catalog = Catalog() if newest is None else load(newest.chunks)
    wal, boot = Wal.open(
        disk,
        cluster=lineage,
        node=me,
        snap=None if newest is None else newest.snap,
        snap_epoch=None if newest is None else newest.epoch,
        has_peers=identity.has_peers,
        accept_data_loss=config.accept_data_loss,
    )
    for note in (*snapshots.notes, *wal.notes):
        log.warning("recovery: %s", note)
    storage = Storage(wal, snapshots, shut)
    try:
        boot = _with_epoch(boot, identity)
        _note_peers(disk, identity, boot)
        # Clients know the data set by its lineage: after a forced epoch it is another one, and
        # what they have seen of the old one bounds no answer.
        begun = boot.epoch or boot.left or identity.epoch
        known_as = identity.cluster if begun is None else f"{begun.lineage:016x}"
        node = Node(config.name, known_as, catalog, data_dir=config.data_dir, clock=clock)
        applied = boot.snap.index
        moment = MemberTime(clock)
        outside = _outside(config, identity, node, snapshots, moment)
        engine = _engine(
            config, boot, me, lineage, applied, storage, node, moment, outside, on_fatal
        )
    except BaseException:
        storage.close()
        raise
    epoch = boot.epoch or boot.left
    lineage = lineage if epoch is None else epoch.lineage
    hello = PeerHello(
        PEER_VERSION,
        identity.cluster,
        lineage,
        me,
        config.name,
        secrets.randbits(63),
        config.address,
    )
    cluster = Cluster(
        hello, node, engine, snapshots, identity.addresses, clock=clock, draw=random.random
    )
    cluster.membership.outside = outside
    if epoch is None and identity.epoch is not None:
        engine.found(identity.epoch)
    engine.start()
    node.start(engine)
    if (config.line or config.seeds) and not config.follows_only:
        cluster.join()
    return node


def _engine(
    config: NodeConfig,
    boot: Boot,
    me: int,
    lineage: int,
    applied: int,
    storage: Storage | None,
    node: Node,
    moment: MemberTime,
    outside: Outside | None,
    on_fatal: Callable[[BaseException], None],
) -> MemberEngine:
    settings = config.settings

    def make(epoch: Epoch, boot: Boot, may_lead_first: bool) -> Core:
        if epoch.engine == OUTSIDE and outside is not None:
            return outside.make(epoch, boot)
        return make_core(
            me, epoch, boot, may_lead_first=may_lead_first, now=moment.now, settings=settings
        )

    epoch = boot.epoch or boot.left
    member = Member(
        me,
        boot,
        lineage=lineage if epoch is None else epoch.lineage,
        applied=applied,
        now=moment.now,
        make_core=make,
        draw=random.random,
        settings=settings,
    )
    return MemberEngine(
        member,
        me=me,
        name=config.name,
        applied=applied,
        storage=storage,
        sink=node,
        on_fatal=on_fatal,
        time_of_member=moment,
        outside=outside,
    )


def _outside(
    config: NodeConfig,
    identity: Identity,
    node: Node,
    snapshots: SnapshotStore,
    moment: MemberTime,
) -> Outside:
    """Who speaks with an etcd, if the cluster goes there."""
    me = Self(identity.nid, node, identity.cluster, config.address, snapshots, lambda: moment.now)
    return EtcdEpochs(me, config.etcd_access, config.settings)


# Who this is


async def _identity(config: NodeConfig, disk: Disk, port: NativePort | None) -> Identity:
    """Whose data this directory holds; made when there is none, and never changed."""
    identity = read_identity(disk, config.data_dir)
    if identity is None:
        nid = draw_nid()
        if config.line or config.seeds:
            identity = Identity(cluster="", node=config.name, nid=nid, has_peers=True)
        else:
            cluster = secrets.token_hex(8)
            epoch = _alone(int(cluster, 16), nid, config.name)
            identity = Identity(cluster=cluster, node=config.name, nid=nid, epoch=epoch)
        write_identity(disk, identity)
    if identity.node != config.name:
        raise Invalid(
            f"name: {config.data_dir} belongs to node {identity.node!r}, not {config.name!r}: "
            f"start it with --name {identity.node}, or give this node a directory of its own",
            field="name",
        )
    if not identity.cluster:
        identity = await _find_cluster(config, disk, identity, port)
    return identity


async def _find_cluster(
    config: NodeConfig, disk: Disk, identity: Identity, port: NativePort | None
) -> Identity:
    if port is None or not (config.line or config.seeds):
        raise Invalid(
            f"cluster: {config.data_dir} was made for a cluster, and has not found it yet: start "
            "it with --cluster or --join",
            field="cluster",
        )
    found = identity

    def commit(belonging: Belonging) -> None:
        nonlocal found
        found = msgspec.structs.replace(
            identity,
            cluster=belonging.cluster,
            epoch=belonging.epoch,
            addresses=belonging.addresses,
        )
        write_identity(disk, found)

    machine = Machine(
        name=config.name,
        nid=identity.nid,
        address=config.address,
        line=config.line,
        seeds=config.seeds,
        engine=config.engine if len(config.line) > 1 else ALONE,
    )
    await belong(machine, port, commit)
    return found


def _alone(lineage: int, nid: int, name: str) -> Epoch:
    """The first epoch of a node of its own."""
    return Epoch(lineage, 1, ALONE, {nid: Peer(name, "")}, 1, nid)


def _with_epoch(boot: Boot, identity: Identity) -> Boot:
    """A directory from before there were epochs is in one all the same."""
    if boot.epoch is not None or boot.left is not None or identity.epoch is not None:
        return boot
    epoch = _alone(int(identity.cluster, 16), identity.nid, identity.node)
    number = max(boot.hard.promised.epoch, 1)
    return msgspec.structs.replace(boot, epoch=msgspec.structs.replace(epoch, number=number))


def _note_peers(disk: Disk, identity: Identity, boot: Boot) -> None:
    """Whether others can repair what rots here decides how the next start judges damage."""
    epoch = boot.left or boot.epoch
    has_peers = epoch is not None and set(epoch.members) != {identity.nid}
    if epoch is not None and has_peers != identity.has_peers:
        write_identity(disk, msgspec.structs.replace(identity, has_peers=has_peers))
