"""Three nodes, one zone: every node answers, and goes on when the leader is killed."""

import asyncio

import pytest
from tests.doors.dns.programs import code, dig
from tests.doors.over_http import Api, eventually
from tests.processes.cluster import ClusterProcesses, NodeProcess

NAME = "orders.service.waypost"


def answers(node: NodeProcess) -> list[str]:
    return sorted(dig(node.dns.rpartition(":")[2], NAME))


def test_every_node_answers_and_follows_when_the_leader_is_killed(
    cluster: ClusterProcesses, api: Api
) -> None:
    api.register("orders", "o-1", host="10.0.0.1")
    api.register("orders", "o-2", host="10.0.0.2")
    for node in cluster.nodes.values():
        eventually(lambda node=node: answers(node) == ["10.0.0.1", "10.0.0.2"])

    leader = asyncio.run(cluster.leader())
    leader.kill()
    left = [node for node in cluster.nodes.values() if node is not leader]

    for node in left:
        assert answers(node) == ["10.0.0.1", "10.0.0.2"], "it answers while nobody leads"

    api.say("orders", "o-1", "critical")
    api.register("orders", "o-3", host="10.0.0.3")
    for node in left:
        eventually(lambda node=node: answers(node) == ["10.0.0.2", "10.0.0.3"])


@pytest.mark.slow  # it takes ten seconds until a node no longer knows
def test_a_node_that_is_left_alone_tells_what_it_knows_and_denies_nothing(
    cluster: ClusterProcesses, api: Api
) -> None:
    alone = cluster.nodes["c"]
    port = alone.dns.rpartition(":")[2]
    api.register("orders", "o-1", host="10.0.0.1")
    eventually(lambda: answers(alone) == ["10.0.0.1"])
    assert code(port, "nobody.service.waypost") == "NXDOMAIN"

    cluster.nodes["a"].kill()
    cluster.nodes["b"].kill()

    eventually(lambda: code(port, "nobody.service.waypost") == "SERVFAIL")
    assert answers(alone) == ["10.0.0.1"]
    assert code(port, NAME, "AAAA") == "NOERROR"

    cluster.nodes["a"].begin()
    cluster.nodes["a"].wait_ready()
    eventually(lambda: code(port, "nobody.service.waypost") == "NXDOMAIN")
