"""What every node says of itself, and of the registry that it belongs to."""

from tests.contract.clusters import Cluster
from tests.contract.engines import ELECTING, on
from tests.contract.telling import told, watched


@told
async def test_status_names_the_engine_and_what_it_keeps(cluster: Cluster, service: str) -> None:
    for name in cluster.names:
        async with cluster.client(name) as client:
            status = await client.status()
        assert status.engine == cluster.engine.name
        assert status.durable == cluster.engine.keeps
        assert status.writable
        assert status.released
        assert status.epoch >= 1
        assert status.version
        assert status.uptime_s >= 0
        assert status.age_ms < 60_000


@told
async def test_all_nodes_are_of_one_registry_and_hold_the_same(
    cluster: Cluster, service: str
) -> None:
    async with cluster.client() as client:
        await client.register(service, port=80)
        for name in cluster.names:
            await cluster.state(name)
        told_by = [cluster.status(name) for name in cluster.names]

    assert [status.node for status in told_by] == list(cluster.names)
    assert all(sorted(status.members) == sorted(cluster.names) for status in told_by)
    same = {
        (each.cluster, each.epoch, each.services, each.instances, each.revision, each.leader)
        for each in told_by
    }
    assert len(same) == 1


@on(ELECTING)
@told
async def test_one_node_leads_and_all_know_its_name(cluster: Cluster) -> None:
    told_by = [cluster.status(name) for name in cluster.names]
    (leader,) = {status.leader for status in told_by}
    roles = {status.node: status.role for status in told_by}
    assert roles.pop(leader) == "leader"
    assert set(roles.values()) == {"follower"}


@told
async def test_status_over_http_is_the_same_and_readiness_says_ready(cluster: Cluster) -> None:
    for name in cluster.names:
        async with cluster.http(name) as http:
            over_http = (await http.get("/status")).json()
            ready = await http.get(f"http://{cluster.up[name].http_address}/readyz")
        status = cluster.status(name)
        assert over_http["node"] == name
        assert over_http["cluster"] == status.cluster
        assert over_http["engine"] == status.engine
        assert ready.status_code == 200


@told
async def test_the_numbers_follow_what_connects_watches_and_registers(
    cluster: Cluster, service: str
) -> None:
    name = cluster.names[-1]
    before = cluster.status(name)
    async with cluster.peer(name) as peer:
        await peer.attach(f"s-{service}")
        await peer.register(service, "o1", f"s-{service}")
        await watched(peer, service)
        during = cluster.status(name)
        assert during.connections == before.connections + 1
        assert during.sessions == before.sessions + 1
        assert (during.services, during.instances) == (before.services + 1, before.instances + 1)
        assert during.watchers == before.watchers + 1
        assert during.revision > before.revision
