"""Debian's Prometheus, as it is, finds instances by ``http_sd``."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.doors.over_http import Api, eventually
from tests.doors.prometheus.program import Prometheus, Scraped
from tests.processes.cluster import ClusterProcesses

RELABEL = """
    relabel_configs:
    - {source_labels: [__meta_waypost_id], target_label: id}
    - {source_labels: [__meta_waypost_health], target_label: health}
    - {source_labels: [__meta_waypost_zone], target_label: zone}
"""


def job(name: str, *urls: str) -> str:
    sources = "".join(f"\n    - {{url: '{url}', refresh_interval: 200ms}}" for url in urls)
    return f"  - job_name: {name}\n    http_sd_configs:{sources}{RELABEL}"


@pytest.fixture
def scraped() -> Iterator[Scraped]:
    with Scraped() as server:
        yield server


@pytest.mark.slow  # Prometheus takes up what is new every five seconds
def test_prometheus_finds_scrapes_and_loses_what_comes_and_goes(
    cluster: ClusterProcesses, api: Api, scraped: Scraped, tmp_path: Path
) -> None:
    url = f"http://{cluster.nodes['a'].http}/prometheus/sd?service=orders"
    api.register("orders", "o-1", zone="z1", ports={"metrics": scraped.port})
    api.register("orders", "o-2", zone="z1", port=scraped.port)
    api.register("billing", "b-1", port=scraped.port)
    with Prometheus(
        tmp_path / "prometheus", job("all", url) + job("fit", url + "&health=resolvable")
    ) as prometheus:
        prometheus.until({"o-1": "up", "o-2": "up"})
        eventually(lambda: len(prometheus.value('orders_served{job="all"}')) == 2)
        for labels, value in prometheus.value('orders_served{job="all"}'):
            assert (labels["zone"], labels["health"], value) == ("z1", "passing", "42")
            assert not [name for name in labels if name.startswith("__meta")]

        api.say("orders", "o-1", "draining")
        api.say("orders", "o-2", "critical")
        eventually(lambda: health_of(prometheus, "all") == {"o-1": "draining", "o-2": "critical"})
        eventually(lambda: health_of(prometheus, "fit") == {})

        api.say("orders", "o-1", "passing")
        api.deregister("orders", "o-2")
        prometheus.until({"o-1": "up"})

        api.register("orders", "o-2", port=scraped.port)
        eventually(lambda: health_of(prometheus, "fit") == {"o-1": "passing", "o-2": "passing"})

        api.deregister("orders", "o-1")
        api.deregister("orders", "o-2")
        prometheus.until({})


@pytest.mark.slow
def test_prometheus_keeps_what_it_found_and_finds_more_while_the_leader_dies(
    cluster: ClusterProcesses, api: Api, scraped: Scraped, tmp_path: Path
) -> None:
    api.register("orders", "o-1", port=scraped.port)
    urls = [f"http://{node.http}/prometheus/sd" for node in cluster.nodes.values()]
    with Prometheus(tmp_path / "prometheus", job("all", *urls)) as prometheus:
        prometheus.until({"o-1": "up"})

        asyncio.run(cluster.leader()).kill()
        api.register("orders", "o-2", port=scraped.port)

        prometheus.until({"o-1": "up", "o-2": "up"})


def test_prometheus_scrapes_the_registry_itself(cluster: ClusterProcesses, tmp_path: Path) -> None:
    nodes = ", ".join(f"'{node.http}'" for node in cluster.nodes.values())
    static = f"  - job_name: waypost\n    static_configs: [{{targets: [{nodes}]}}]\n"
    with Prometheus(tmp_path / "prometheus", static) as prometheus:
        prometheus.until({node.http: "up" for node in cluster.nodes.values()}, "instance")


def health_of(prometheus: Prometheus, job: str) -> dict[str, str]:
    return {
        each["__meta_waypost_id"]: each["__meta_waypost_health"]
        for each in prometheus.discovered(job)
    }
