"""Run where ``/etc/resolv.conf`` is its own: Prometheus, by all its ways to find us at once.

It takes up what was discovered every five seconds, so all its ways look at one life.
"""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from tests.doors.life import FATES, SERVICE, Told, live_through, usable
from tests.doors.over_http import eventually
from tests.doors.port_53 import inside
from tests.doors.prometheus.program import Prometheus, Scraped

BY_HTTP = """
    relabel_configs:
    - {source_labels: [__meta_waypost_id], target_label: id}
    - {source_labels: [__meta_waypost_zone], target_label: zone}
"""
BY_EUREKA = """
    relabel_configs: [{source_labels: [__meta_eureka_app_instance_id], target_label: id}]
"""
BY_DNS = """
    relabel_configs: [{source_labels: [__meta_dns_srv_record_port], target_label: id}]
"""
META = {"team": "checkout"}
STATUSES = {"passing": "UP", "critical": "DOWN", "draining": "OUT_OF_SERVICE"}


def job(name: str, kind: str, source: str, then: str) -> str:
    configs = f"[{{{source}, refresh_interval: 200ms}}]"
    return f"  - job_name: {name}\n    {kind}_sd_configs: {configs}{then}"


def main(directory: Path) -> None:
    with inside(directory) as cluster, ExitStack() as stack:
        node = cluster.follower
        ports = {fate: stack.enter_context(Scraped()).port for fate in FATES}
        places = {each: {"port": port, "zone": "z1", "meta": META} for each, port in ports.items()}
        # Where a port of that name is, it is scraped there.
        places["well"] |= {"port": 9, "ports": {"metrics": ports["well"]}}
        at = f"http://{node.http}"
        all_of_it = f"{at}/prometheus/sd?service={SERVICE}"
        nodes = ", ".join(f"'{each.http}'" for each in cluster.processes.nodes.values())
        jobs = [
            job("all", "http", f"url: '{all_of_it}'", BY_HTTP),
            job("fit", "http", f"url: '{all_of_it}&health=resolvable'", BY_HTTP),
            job("dns", "dns", f"names: ['_{SERVICE}._tcp.service.waypost']", BY_DNS),
            job("eureka", "eureka", f"server: '{at}/eureka'", BY_EUREKA),
            f"  - job_name: waypost\n    static_configs: [{{targets: [{nodes}]}}]\n",
        ]
        cluster.api.register("billing", "b-1", port=ports["well"])
        with Prometheus(directory / "prometheus", "".join(jobs)) as prometheus:
            look = Looking(prometheus, ports)
            live_through(cluster.api, places, look.sees, lambda: cluster.kill_the_leader(node.http))
            look.labels_are_right()
            running = {each.http for each in cluster.processes.running}
            eventually(
                lambda: (
                    {
                        each
                        for each, health in prometheus.targets("waypost", "instance").items()
                        if health == "up"
                    }
                    == running
                )
            )
    print("found, scraped, followed, and gone")


class Looking:
    """What it shows of an instance, by each way."""

    def __init__(self, prometheus: Prometheus, ports: dict[str, int]) -> None:
        self._prometheus = prometheus
        self._ports = ports

    def sees(self, told: Told) -> None:
        """Wait until each way shows these as they are."""
        fit = dict.fromkeys(usable(told), "up")
        # By DNS there is one port: an instance's own, which nobody answers for this one.
        by_dns = {
            "9" if each == "well" else str(self._ports[each]): "down" if each == "well" else "up"
            for each in fit
        }
        of_eureka = {each: STATUSES[health] for each, health in told.items()}
        self._until(lambda: self._prometheus.targets("all"), dict.fromkeys(told, "up"))
        self._until(lambda: self._shown("all", "waypost_id", "waypost_health"), told)
        self._until(lambda: self._prometheus.targets("fit"), fit)
        self._until(lambda: self._prometheus.targets("dns"), by_dns)
        self._until(
            lambda: {
                each: status
                for each, status in self._shown(
                    "eureka", "eureka_app_instance_id", "eureka_app_instance_status"
                ).items()
                if each in self._ports
            },
            of_eureka,
        )

    def labels_are_right(self) -> None:
        """What was scraped has the labels that were asked for, and what was not, no others."""
        query = 'orders_served{job="all"}'
        eventually(lambda: len(self._prometheus.value(query)) == 4)
        for labels, value in self._prometheus.value(query):
            assert (labels["zone"], value) == ("z1", "42")
            assert not [name for name in labels if name.startswith("__meta")]
        for each in self._prometheus.discovered("eureka"):
            if each["__meta_eureka_app_instance_id"] in self._ports:
                assert each["__meta_eureka_app_name"] == SERVICE.upper()
                assert each["__meta_eureka_app_instance_metadata_zone"] == "z1"
                assert each["__meta_eureka_app_instance_metadata_team"] == META["team"]

    def _shown(self, job: str, key: str, value: str) -> dict[str, str]:
        return {
            each[f"__meta_{key}"]: each[f"__meta_{value}"]
            for each in self._prometheus.discovered(job)
        }

    def _until(self, shown: Callable[[], dict[str, str]], expected: dict[str, str]) -> None:
        eventually(
            lambda: shown() == expected,
            lambda: f"{expected}, not {shown()}\n{self._prometheus.log()}",
        )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
