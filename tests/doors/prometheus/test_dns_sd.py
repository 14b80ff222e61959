"""Debian's Prometheus, as it is, finds instances by DNS: in a network where we serve port 53."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.doors.dns.programs import program


@pytest.mark.slow
def test_prometheus_finds_and_scrapes_by_dns_sd(tmp_path: Path) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    unshare = [program("unshare", "util-linux"), "--map-root-user", "--mount", "--net", "sh", "-ec"]
    script = (
        f"ip link set lo up; mount --bind {tmp_path}/resolv.conf /etc/resolv.conf; "
        f"exec {sys.executable} -m tests.doors.prometheus.dns_sd {tmp_path}"
    )
    done = subprocess.run(
        [*unshare, script], capture_output=True, text=True, timeout=100, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout == "found, followed, and gone\n"
