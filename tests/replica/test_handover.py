"""What a walk seldom meets: one script for each, over the real cores."""

import msgspec
import pytest
from tests.replica.cluster import Cluster
from tests.replica.walk import clustered

from waypost.consensus.core import KIND_SEAL, Hard, Nid
from waypost.consensus.messages import ballot_of
from waypost.errors import Invalid, Unavailable
from waypost.replica.peer_messages import InEpoch


def spoken(cluster: Cluster, src: Nid, number: int) -> int:
    """How often a node's core spoke in an epoch."""
    return sum(
        said_by == src
        and isinstance(message, InEpoch)
        and ballot_of(message.message).epoch == number
        for said_by, _, message in cluster.sent
    )


def is_at(cluster: Cluster, nid: Nid, number: int) -> bool:
    status = cluster.nodes[nid].status
    return status.epoch.number == number and status.started


def lives(cluster: Cluster, number: int, payload: bytes = b"alive") -> Nid:
    """The epoch gets a leader, and commits; returns who leads."""

    def leads() -> bool:
        leader = cluster.leader()
        return leader != 0 and is_at(cluster, leader, number)

    cluster.run(5_000, until=leads)
    leader = cluster.leader()
    assert is_at(cluster, leader, number)
    token = cluster.append(leader, payload)
    cluster.run(1_000)
    assert cluster.nodes[leader].done[token].what == "committed"
    return leader


def all_hold_the_log(cluster: Cluster) -> None:
    for node in cluster.up():
        assert node.applied == cluster.log, f"node {node.nid}"


@pytest.mark.parametrize(("old", "new"), [("raft", "paxos"), ("paxos", "raft")])
def test_batches_that_come_while_the_seal_is_on_its_way_are_answered_in_the_next_epoch(
    old: str, new: str
) -> None:
    cluster = clustered(old, 1, 2, 3)
    cluster.append(1, b"long before")
    cluster.run(100)
    before = cluster.append(1, b"before")
    change = cluster.change(1, new, 1, 2, 3, first_leader=1)
    held = [cluster.append(1, b"held %d" % n) for n in range(3)]
    read = cluster.read(1)
    assert len(cluster.nodes[1].done) == 1
    begun = cluster.now
    cluster.run(500, until=lambda: held[-1] in cluster.nodes[1].done)
    assert cluster.now - begun < 20_000_000, "no election was waited for"
    done = cluster.nodes[1].done
    assert [done[token].what for token in (before, change, *held)] == ["committed"] * 5
    assert done[before].index < done[change].index < done[held[0]].index
    cluster.run(100)
    assert read in cluster.nodes[1].reads
    assert cluster.nodes[1].status.ballot.round == 1
    all_hold_the_log(cluster)


def test_no_message_of_an_epoch_leaves_its_first_leader_before_the_start_is_durable() -> None:
    cluster = clustered("raft", 1, 2, 3)
    cluster.change(1, "paxos", 1, 2, 3, first_leader=1)
    cluster.append(1, b"held")
    cluster.run(500, until=lambda: is_at(cluster, 1, 2))
    one = cluster.nodes[1]
    assert one.status.role == "leader"
    assert any(write.epoch for write in one.disk.queue)
    assert spoken(cluster, 1, 2) == 0

    one.crash(0)
    cluster.run(20)
    one.start()
    lives(cluster, 2)
    cluster.run(500)
    all_hold_the_log(cluster)


def test_a_first_leader_does_not_lead_its_first_ballot_again_after_a_restart() -> None:
    cluster = clustered("raft", 1, 2, 3)
    cluster.change(1, "paxos", 1, 2, 3, first_leader=1)
    cluster.run(500, until=lambda: is_at(cluster, 1, 2))
    one = cluster.nodes[1]
    one.crash(len(one.disk.queue))
    one.start()
    assert one.status.epoch.number == 2
    assert one.status.role != "leader"
    assert cluster.nodes[lives(cluster, 2)].status.ballot.round > 1


@pytest.mark.parametrize(("old", "new"), [("raft", "paxos"), ("paxos", "raft")])
def test_whoever_knows_of_an_epoch_tells_its_first_leader(old: str, new: str) -> None:
    cluster = clustered(old, 1, 2, 3)
    cluster.run(200)
    change = cluster.change(1, new, 1, 2, 3, first_leader=2)
    cluster.run(500, until=lambda: change in cluster.nodes[1].done)
    cluster.wires.clear()  # nobody else hears that the Seal is committed
    begun = cluster.now
    cluster.run(500, until=lambda: is_at(cluster, 2, 2))
    assert cluster.nodes[2].status.role == "leader"
    assert cluster.now - begun < 100_000_000, "2 had to miss the leader before it asked"


def test_an_old_leader_serves_no_read_after_a_second_one_has_committed_the_seal() -> None:
    cluster = clustered("raft", 1, 2, 3)
    cluster.run(200)
    one, seal = cluster.nodes[1], cluster.nodes[1].status.last + 1
    cluster.change(1, "paxos", 1, 2, 3, first_leader=2)
    one.sync()
    for _ in range(len(cluster.wires)):
        cluster.deliver()  # the Seal arrives at the others; their answers do not
    cluster.wires.clear()
    assert [node.status.last for node in cluster.up()] == [seal] * 3
    cluster.cut_off(1)
    cluster.run(2_000, until=lambda: is_at(cluster, 2, 2) and is_at(cluster, 3, 2))
    assert cluster.nodes[2].status.epoch.seal_ballot.node == 1
    assert one.status.epoch.number == 1
    token = cluster.append(2, b"only in the new epoch")
    cluster.run(20)
    assert cluster.nodes[2].done[token].what == "committed"
    read = cluster.read(1)
    cluster.run(1_000)
    assert read not in one.reads
    cluster.cut.clear()
    lives(cluster, 2)
    cluster.run(500)
    all_hold_the_log(cluster)
    assert [kind for kind, _ in cluster.kinds].count(KIND_SEAL) == 1


def test_what_an_old_leader_left_behind_the_seal_never_wins_in_the_next_epoch() -> None:
    cluster = clustered("raft", 3, 1, 2)
    cluster.cut_off(3)
    for n in range(6):
        cluster.append(3, b"leftover %d" % n)
    cluster.nodes[3].sync()
    cluster.run(1_000, until=lambda: cluster.nodes[3].status.role != "leader")
    cluster.run(2_000, until=lambda: cluster.leader() in (1, 2))
    leader = cluster.leader()
    cluster.run(200)
    cluster.change(leader, "paxos", 1, 2, 3, first_leader=leader)
    lives(cluster, 2)
    assert cluster.nodes[3].status.last > len(cluster.log)
    cluster.cut.clear()
    cluster.nodes[leader].crash(0)
    lives(cluster, 2, b"after")
    cluster.nodes[leader].start()
    cluster.run(1_000)
    all_hold_the_log(cluster)
    assert not any(payload.startswith(b"leftover") for payload in cluster.payloads())


def test_a_removed_node_is_not_named_again() -> None:
    cluster = clustered("raft", 1, 2, 3)
    cluster.change(1, "raft", 1, 2, first_leader=1)
    lives(cluster, 2)
    cluster.run(500)
    assert cluster.nodes[3].is_retired
    assert not cluster.nodes[1].is_retired
    all_hold_the_log(cluster)
    with pytest.raises(Invalid, match="was a member before"):
        cluster.change(1, "raft", 1, 2, 3)
    cluster.nodes[3].crash(0)
    cluster.nodes[3].start()
    cluster.run(500)
    with pytest.raises(Invalid, match="was a member before"):
        cluster.change(1, "raft", 1, 2, 3)


def test_a_member_that_is_down_makes_no_majority_of_the_next_epoch() -> None:
    cluster = clustered("raft", 1, 2, 3)
    cluster.run(200)
    cluster.nodes[3].crash(0)
    cluster.run(100)
    leader = cluster.leader()
    cluster.run(500)
    with pytest.raises(Unavailable, match="only 1 of the 2 named are up"):
        cluster.change(leader, "raft", leader, 3)
    cluster.change(leader, "raft", 1, 2, first_leader=leader)
    lives(cluster, 2)


@pytest.mark.parametrize("engine", ["raft", "paxos"])
def test_a_member_whose_disk_forgot_makes_no_majority_of_the_next_epoch(engine: str) -> None:
    cluster = clustered(engine, 1, 2, 3)
    cluster.append(cluster.leader(), b"precious")
    cluster.run(300)
    leader = cluster.leader()
    three = cluster.nodes[next(nid for nid in (2, 3) if nid != leader)]
    nid = next(nid for nid, node in cluster.nodes.items() if node is three)
    three.crash(0)
    boot = three.disk.boot
    three.disk.boot = msgspec.structs.replace(
        boot, hard=Hard(commit=boot.hard.commit, suspect=True)
    )
    three.start()

    def is_forgotten() -> bool:
        return dict(cluster.nodes[leader].status.matches)[nid] == 0

    cluster.run(200, until=is_forgotten)
    assert is_forgotten()
    with pytest.raises(Unavailable, match="only 1 of the 2 named are up"):
        cluster.change(leader, engine, leader, nid)


def test_what_a_node_said_before_it_was_a_member_counts_no_more() -> None:
    cluster = clustered("local", 1)
    cluster.add(2)
    cluster.nodes[2].member.met(cluster.now, 1)
    cluster.nodes[2].drain()
    cluster.run(300)
    cluster.change(1, "raft", 1, 2, first_leader=1)
    lives(cluster, 2)
    cluster.change(1, "local", 1, first_leader=1)
    cluster.run(500, until=lambda: is_at(cluster, 1, 3))
    cluster.nodes[1].sync()
    assert cluster.nodes[1].status.released
    with pytest.raises(Unavailable, match="does not follow"):
        cluster.change(1, "local", 2, first_leader=2)


@pytest.mark.parametrize("engine", ["raft", "paxos"])
def test_a_member_whose_epoch_rotted_votes_only_when_it_holds_everything_again(
    engine: str,
) -> None:
    cluster = clustered(engine, 1, 2, 3)
    cluster.append(1, b"before")
    cluster.run(300)
    three = cluster.nodes[3]
    three.crash(0)
    assert three.disk.boot.entries
    three.disk.boot = msgspec.structs.replace(three.disk.boot, epoch=None)
    three.start()
    assert three.status.role == "learner"
    three.member.met(cluster.now, 1)
    roles: list[str] = []

    def is_back() -> bool:
        roles.append(three.status.role)
        return three.status.role == "follower"

    cluster.run(2_000, until=is_back)
    assert roles[-1] == "follower"
    assert "recovering" in roles
    cluster.run(300)
    all_hold_the_log(cluster)


def test_a_learner_whose_disk_lost_something_is_not_made_a_member() -> None:
    cluster = clustered("raft", 1, 2, 3)
    cluster.add(4)
    four = cluster.nodes[4]
    four.member.met(cluster.now, 1)
    cluster.run(300)
    four.crash(0)
    boot = four.disk.boot
    four.disk.boot = msgspec.structs.replace(boot, hard=Hard(commit=boot.hard.commit, suspect=True))
    four.start()
    cluster.run(300)
    with pytest.raises(Invalid, match="or its damaged disk cannot tell"):
        cluster.change(cluster.leader(), "raft", 1, 2, 3, 4)


def test_all_members_are_replaced_though_the_old_ones_crash_before_they_tell() -> None:
    cluster = clustered("raft", 1, 2, 3)
    cluster.append(1, b"precious")
    cluster.add(4, 5, 6)
    for nid in (4, 5, 6):
        cluster.nodes[nid].member.met(cluster.now, 1)
        cluster.nodes[nid].drain()
    cluster.run(300)
    change = cluster.change(1, "paxos", 4, 5, 6, first_leader=4)
    cluster.run(500, until=lambda: change in cluster.nodes[1].done)
    cluster.wires.clear()
    for nid in (1, 2, 3):
        cluster.nodes[nid].crash(0)
    cluster.wires.clear()
    cluster.run(300)
    for nid in (1, 2, 3):
        cluster.nodes[nid].start()
    leader = lives(cluster, 2)
    assert leader in (4, 5, 6)
    cluster.run(3_000)
    all_hold_the_log(cluster)
    assert [nid for nid, node in cluster.nodes.items() if node.is_retired] == [1, 2, 3]
    assert b"precious" in cluster.payloads()


def test_a_sleeper_with_a_tail_of_its_own_catches_up_over_three_epochs() -> None:
    cluster = clustered("paxos", 3, 1, 2)
    cluster.cut_off(3)
    for n in range(4):
        cluster.append(3, b"tail %d" % n)
    cluster.nodes[3].sync()
    cluster.nodes[3].crash(0)
    cluster.wires.clear()
    cluster.cut.clear()
    for number, engine in ((2, "raft"), (3, "paxos"), (4, "raft")):
        cluster.run(2_000, until=lambda: cluster.leader() in (1, 2))
        cluster.run(300)
        cluster.change(cluster.leader(), engine, 1, 2, 3, first_leader=cluster.leader())
        lives(cluster, number, b"epoch %d" % number)
    sleeper = cluster.nodes[3]
    sleeper.start()
    assert sleeper.status.epoch.number == 1
    cluster.run(1_000)
    assert is_at(cluster, 3, 4)
    assert sleeper.status.role == "follower"
    all_hold_the_log(cluster)
    assert not any(payload.startswith(b"tail") for payload in cluster.payloads())


def test_a_seal_is_overwritten_by_another_at_the_same_index() -> None:
    cluster = clustered("paxos", 1, 2, 3)
    cluster.run(200)
    cluster.cut_off(1)
    lost = cluster.change(1, "raft", 1, 2, 3, first_leader=1)
    cluster.nodes[1].sync()
    own = cluster.nodes[1].status.last
    cluster.run(2_000, until=lambda: cluster.leader() in (2, 3))
    other = cluster.leader()
    cluster.change(other, "raft", 1, 2, 3, first_leader=other)
    lives(cluster, 2)
    epoch = cluster.nodes[other].status.epoch
    assert epoch.first - 1 == own, "both Seals stand at the same index"
    assert epoch.first_leader == other
    assert cluster.nodes[1].status.epoch.number == 1
    cluster.cut.clear()
    cluster.run(1_000)
    assert is_at(cluster, 1, 2)
    assert cluster.nodes[1].done[lost].what in ("lost", "unknown")
    all_hold_the_log(cluster)


def test_a_snapshot_exactly_at_the_seal_carries_the_epoch_after_it() -> None:
    cluster = clustered("raft", 1, 2, 3)
    cluster.append(1, b"precious")
    cluster.nodes[3].crash(0)
    cluster.run(50)
    cluster.change(1, "paxos", 1, 2, 3, first_leader=0)
    cluster.run(500, until=lambda: is_at(cluster, 1, 2) and is_at(cluster, 2, 2))
    for nid in (1, 2):
        node = cluster.nodes[nid]
        node.sync()
        seal = node.status.epoch.first - 1
        assert len(node.applied) == seal
        node.snapshot()
        node.sync()
        assert node.disk.boot.snap.index == seal
    cluster.nodes[2].crash(0)
    cluster.nodes[2].start()
    assert is_at(cluster, 2, 2)
    cluster.nodes[3].start()
    cluster.add(4)
    cluster.nodes[4].member.met(cluster.now, 1)
    cluster.nodes[4].drain()
    lives(cluster, 2)
    cluster.run(1_000)
    assert cluster.nodes[3].disk.boot.snap.index == seal
    assert is_at(cluster, 4, 2)
    all_hold_the_log(cluster)


def test_one_node_grows_into_a_cluster_and_shrinks_again() -> None:
    cluster = clustered("local", 1)
    cluster.append(1, b"alone")
    cluster.add(2, 3)
    with pytest.raises(Unavailable, match="does not follow"):
        cluster.change(1, "raft", 1, 2, 3, first_leader=1)
    for nid in (2, 3):
        cluster.nodes[nid].member.met(cluster.now, 1)
        cluster.nodes[nid].drain()
    cluster.run(300)
    cluster.change(1, "raft", 1, 2, 3, first_leader=1)
    lives(cluster, 2)
    cluster.change(1, "local", 2, first_leader=2)
    assert lives(cluster, 3) == 2
    cluster.run(500)
    all_hold_the_log(cluster)
    assert [nid for nid, node in cluster.nodes.items() if node.is_retired] == [1, 3]


def test_a_learner_reads_what_was_acknowledged_before_it_asked() -> None:
    cluster = clustered("raft", 1, 2, 3)
    cluster.add(4)
    cluster.nodes[4].member.met(cluster.now, 2)
    cluster.nodes[4].drain()
    cluster.run(300)
    written = cluster.append(1, b"x")
    cluster.run(50)
    read = cluster.read(4)
    cluster.run(50)
    node = cluster.nodes[4]
    assert node.status.role == "learner"
    assert node.reads[read] >= cluster.nodes[1].done[written].index
    cluster.cut_off(1)
    cluster.cut_off(4)
    failed = cluster.read(4)
    cluster.run(1_000)
    assert failed in node.reads_failed


def test_a_learner_leaves_a_node_that_hears_nothing_itself() -> None:
    cluster = clustered("raft", 1, 2, 3)
    cluster.add(4)
    cluster.nodes[4].member.met(cluster.now, 2)
    cluster.nodes[4].drain()
    cluster.run(300)
    asked = cluster.nodes[4].member._asking._target
    cluster.cut_off(asked, 4)
    cluster.run(3_000)
    token = cluster.append(cluster.leader(), b"moved on")
    cluster.run(500)
    assert cluster.nodes[cluster.leader()].done[token].what == "committed"
    assert cluster.nodes[4].applied == cluster.log
