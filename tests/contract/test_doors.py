"""The same registry behind its other doors: HTTP, and the library for blocking code."""

from tests.contract.clusters import Cluster
from tests.contract.telling import told

import waypost

BODY = {"host": "127.0.0.1", "port": 9, "ttl": 0}


@told
async def test_what_is_done_over_http_at_one_node_is_seen_over_http_at_another(
    cluster: Cluster, service: str
) -> None:
    here, there = cluster.names[0], cluster.after(cluster.names[0])
    instance = f"/services/{service}/instances/o1"
    fresh = {"consistency": "linearizable"}
    async with cluster.http(here) as http, cluster.http(there) as other:
        made = await http.put(instance, json={**BODY, "zone": "z1", "tags": ["blue"]})
        assert made.status_code == 201
        assert made.json()["incarnation"] > 0
        found = (await other.get(f"/services/{service}", params=fresh)).json()
        assert [each["id"] for each in found["instances"]] == ["o1"]
        assert found["revision"] >= made.json()["revision"]
        again = await other.put(instance, json={**BODY, "zone": "z2"})
        assert again.status_code == 200
        found = (await http.get(f"/services/{service}", params={**fresh, "zone": "z2"})).json()
        assert found["instances"][0]["incarnation"] == again.json()["incarnation"]

        ill = {"health": "critical", "why": "tired"}
        assert (await http.post(f"{instance}/health", json=ill)).status_code == 200
        found = (await other.get(f"/services/{service}", params=fresh)).json()
        assert found["instances"] == []
        found = (await other.get(f"/services/{service}", params={"health": "any"})).json()
        assert found["instances"][0]["why"] == "tired"

        drained = await other.post(f"{instance}/drain", json={"deadline": 5})
        assert drained.json()["unseen"] == 0
        assert (await other.post(f"{instance}/renew")).status_code == 200
        assert (await other.delete(instance)).status_code == 200
        assert (await http.get(f"/services/{service}", params=fresh)).status_code == 404
        assert (await http.delete(instance)).status_code == 404


@told
async def test_a_batch_over_http_is_answered_item_by_item(cluster: Cluster, service: str) -> None:
    items = [
        {"op": "register", "service": service, "id": "o1", **BODY},
        {"op": "register", "service": service, "id": "o2", **BODY},
        {"op": "deregister", "service": service, "id": "never-there"},
    ]
    async with cluster.http(cluster.names[-1]) as http:
        report = (await http.post("/batch", json={"items": items})).json()

    assert [result["status"] for result in report["results"]] == [200, 200, 404]
    assert set(await cluster.reads(cluster.names[0], service)) == {"o1", "o2"}


def test_blocking_code_registers_watches_picks_and_leaves(cluster: Cluster, service: str) -> None:
    with cluster.client() as provider, cluster.client() as consumer:
        watch = iter(consumer.watch(service))
        with provider.register(service, port=8080, host="10.0.0.1", id="o1") as registered:
            up = next(watch)
            registered.update(version="2")
            changed = next(watch)
            found = consumer.resolve(service, consistency="linearizable").records
            view = consumer.service(service)
            view.ready()
            picked = view.pick()
            assert registered.drain(deadline=5).unseen >= 0
        gone = next(change for change in watch if change.kind == "down")

    assert (up.kind, up.record.instance.version) == ("up", "")
    assert (changed.kind, changed.record.instance.version) == ("changed", "2")
    assert [each.instance.id for each in found] == ["o1"]
    assert picked.id == gone.record.instance.id == "o1"


def test_the_five_line_classes_find_each_other(cluster: Cluster, service: str) -> None:
    registry = waypost.ServiceRegistry(cluster.address)
    registry.register(service, "http://10.0.0.1:8080")
    try:
        assert registry.get_service(service) == "http://10.0.0.1:8080"
    finally:
        registry.close()
