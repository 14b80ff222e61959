"""A member over all epochs: what it hands out is one log, and every token is answered once."""

import msgspec
import pytest
from tests.replica.cluster import Cluster, members
from tests.replica.walk import clustered

from waypost.consensus.core import Hard
from waypost.errors import Invalid, Unavailable


def alone() -> Cluster:
    cluster = Cluster()
    cluster.add(1)
    cluster.found("local", 1)
    cluster.run(10)
    return cluster


def test_a_cluster_of_one_commits_and_is_released() -> None:
    cluster = alone()
    token = cluster.append(1)
    cluster.run(10)
    node = cluster.nodes[1]
    assert node.done[token].what == "committed"
    assert node.status.released
    assert len(node.applied) == 1  # nothing came before: it is released as it begins


def test_a_restart_goes_on_in_the_same_epoch() -> None:
    cluster = alone()
    cluster.append(1)
    cluster.run(10)
    node = cluster.nodes[1]
    node.crash(0)
    node.start()
    cluster.run(10)
    token = cluster.append(1)
    cluster.run(10)
    assert node.done[token].what == "committed"
    assert len(node.applied) == 2


def test_a_newcomer_follows_by_milliseconds() -> None:
    cluster = alone()
    for _ in range(5):
        cluster.append(1)
    cluster.add(2)
    cluster.nodes[2].member.met(cluster.now, 1)
    cluster.nodes[2].drain()
    cluster.run(200)
    assert cluster.nodes[2].applied == cluster.nodes[1].applied
    assert cluster.nodes[2].status.role == "learner"
    assert cluster.nodes[2].status.fresh >= cluster.now - 100_000_000
    cluster.append(1)
    cluster.run(2)
    assert cluster.nodes[2].applied == cluster.nodes[1].applied


def test_leadership_moves_from_one_cluster_of_one_to_another() -> None:
    cluster = alone()
    cluster.add(2)
    cluster.nodes[2].member.met(cluster.now, 1)
    cluster.nodes[2].drain()
    cluster.run(200)
    change = cluster.change(1, "local", 2, first_leader=2)
    held = cluster.append(1)
    cluster.run(300)
    one, two = cluster.nodes[1], cluster.nodes[2]
    assert one.done[change].what == "committed"
    assert one.done[held].what == "refused"
    assert one.done[held].hint == 2
    assert two.status.role == "leader"
    assert two.status.epoch.number == 2
    assert two.status.released
    token = cluster.append(2)
    cluster.run(10)
    assert two.done[token].what == "committed"
    assert one.status.role == "learner"
    assert one.is_retired
    assert one.applied == two.applied


def test_a_change_that_cannot_be_says_why() -> None:
    cluster = alone()
    with pytest.raises(Unavailable, match="does not follow"):
        cluster.change(1, "raft", 1, 2)
    with pytest.raises(Invalid, match="for one node"):
        cluster.change(1, "local", 1, 2)
    with pytest.raises(Invalid, match="nothing to change"):
        cluster.change(1, "local", 1)
    assert members(1) == cluster.nodes[1].status.epoch.members


def test_a_newcomer_gets_a_snapshot_where_the_log_is_gone() -> None:
    cluster = alone()
    for _ in range(5):
        cluster.append(1)
    cluster.run(10)
    cluster.nodes[1].snapshot()
    cluster.append(1)
    cluster.run(10)
    cluster.add(2)
    cluster.nodes[2].member.met(cluster.now, 1)
    cluster.nodes[2].drain()
    cluster.run(300)
    assert cluster.nodes[2].applied == cluster.nodes[1].applied
    assert cluster.nodes[2].disk.boot.snap.index == 5
    cluster.nodes[2].crash(0)
    cluster.nodes[2].start()
    cluster.run(300)
    assert cluster.nodes[2].applied == cluster.nodes[1].applied


def test_a_restart_on_the_way_over_several_epochs_hands_out_all_that_is_held() -> None:
    cluster = clustered("raft", 1, 2)
    cluster.run(200)
    cluster.add(3)
    three = cluster.nodes[3]
    three.member.met(cluster.now, 1)
    cluster.run(200)
    cluster.cut_off(3)
    for engine in ("paxos", "raft"):
        cluster.change(1, engine, 1, 2, first_leader=1)
        cluster.run(300)
        cluster.append(1, b"in " + engine.encode())
        cluster.run(300)
    newest = cluster.nodes[1].status.epoch
    assert newest.number == 3
    held = tuple(cluster.nodes[1].member._log.slice(1, newest.first - 2))
    assert held[-1].ballot.epoch == 2
    three.crash(0)
    boot = three.disk.boot
    three.disk.boot = msgspec.structs.replace(
        boot,
        hard=Hard(commit=len(held)),
        entries=held,
        left=newest,
    )
    three.start()
    three.drain()
    assert three.status.applied == len(held)
