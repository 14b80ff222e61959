"""Debian's Prometheus, as it is, finds and scrapes instances by each of its ways, at once."""

from pathlib import Path

import pytest
from tests.doors.port_53 import run_at_port_53


@pytest.mark.slow  # Prometheus takes up what is new every five seconds
def test_prometheus_follows_by_http_sd_dns_sd_and_eureka_sd(tmp_path: Path) -> None:
    done = run_at_port_53("tests.doors.prometheus.life", tmp_path)

    assert done == "found, scraped, followed, and gone\n"
