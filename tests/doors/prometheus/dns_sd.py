"""Run where the network and ``/etc/resolv.conf`` are its own: Prometheus finds by ``dns_sd``."""

import sys
from pathlib import Path

from tests.doors.dns.programs import SERVICE, Registry
from tests.doors.over_http import eventually
from tests.doors.prometheus.program import Prometheus, Scraped

CONFIG = f"""  - job_name: dns
    dns_sd_configs: [{{names: ['_{SERVICE}._tcp.service.waypost'], refresh_interval: 1s}}]
    relabel_configs: [{{source_labels: [__meta_dns_srv_record_port], target_label: id}}]
"""


def main(directory: str) -> None:
    with Registry(dns_port=53) as registry, Scraped() as one, Scraped() as two:
        registry.register("i1", "127.0.0.1", one.port)
        registry.register("i2", "127.0.0.1", two.port)
        first, second = str(one.port), str(two.port)
        with Prometheus(Path(directory) / "prometheus", CONFIG) as prometheus:
            prometheus.until({first: "up", second: "up"})
            eventually(lambda: len(prometheus.value("orders_served")) == 2)

            registry.say("i2", "critical")
            prometheus.until({first: "up"})

            registry.say("i2", "passing")
            registry.say("i1", "draining")
            prometheus.until({second: "up"})

            registry.deregister("i2")
            registry.register("i3", "127.0.0.1", one.port)
            prometheus.until({first: "up"})
    print("found, followed, and gone")


if __name__ == "__main__":
    main(*sys.argv[1:])
