"""Run where the network and ``/etc/resolv.conf`` are its own: Prometheus, by ``dns_sd``."""

import sys
from pathlib import Path

from tests.doors.dns.programs import Registry
from tests.doors.prometheus.program import Prometheus, Scraped

JOB = """
  - job_name: web
    dns_sd_configs:
    - {names: [_web._tcp.service.waypost], refresh_interval: 200ms}
"""


def main() -> None:
    with Registry(dns_port=53) as registry, Scraped() as scraped:
        registry.register("one", "127.0.0.1", scraped.port)
        first = f"7f000001.addr.waypost:{scraped.port}"
        with Prometheus(Path(sys.argv[1]) / "prometheus", JOB) as prometheus:
            prometheus.until({first: "up"}, "instance")
            registry.register("two", "127.0.0.2", 1)
            prometheus.until({first: "up", "7f000002.addr.waypost:1": "down"}, "instance")
            registry.say("two", "critical")
            prometheus.until({first: "up"}, "instance")
    print("found, scraped, and gone")


if __name__ == "__main__":
    main()
