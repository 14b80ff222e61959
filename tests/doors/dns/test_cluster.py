"""Three nodes, one zone: every node answers, and goes on when the leader is killed."""

import asyncio

from tests.doors.dns.programs import dig
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
