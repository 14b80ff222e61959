"""dig, kdig, dnsperf, HAProxy, nginx, glibc, Prometheus, as they are, see what comes and goes."""

import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.doors.dns.programs import (
    ALL,
    SERVICE,
    Backends,
    Registry,
    dig,
    haproxy,
    kdig,
    nginx,
    program,
)
from tests.doors.over_http import eventually

NAME = f"{SERVICE}.service.waypost"


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as registry:
        yield registry


def follow(registry: Registry, seen: Callable[[], set[str]], port: int = 80) -> None:
    """Whoever asks sees an instance appear, be ill, be drained, leave, and come back."""

    def sees(*hosts: str) -> None:
        eventually(lambda: seen() == set(hosts), lambda: f"{hosts}, not {seen()}")

    one, two = ALL
    sees()
    registry.register("one", one, port)
    sees(one)
    registry.register("two", two, port)
    sees(one, two)
    registry.say("one", "critical")
    sees(two)
    registry.say("one", "passing")
    sees(one, two)
    registry.say("two", "draining")
    sees(one)
    registry.deregister("one")
    sees()
    registry.register("one", one, port)
    sees(one)


@pytest.mark.parametrize("client", [dig, kdig])
def test_dig_and_kdig_follow(registry: Registry, client: Callable[..., list[str]]) -> None:
    follow(registry, lambda: set(client(registry.port, NAME)))


@pytest.mark.parametrize("client", [dig, kdig])
def test_what_is_too_long_for_a_datagram_comes_by_tcp(
    registry: Registry, client: Callable[..., list[str]]
) -> None:
    for number in range(60):
        registry.register(f"i{number}", f"10.0.0.{number}")

    by_udp = client(registry.port, "+noedns", "+ignore", NAME)
    retried = client(registry.port, "+noedns", NAME)
    srv = client(registry.port, "+tcp", "SRV", NAME)

    assert 20 < len(by_udp) < 60
    assert len(set(retried)) == 60
    assert len(set(srv)) == 60


def test_kdig_asks_much_over_one_connection_and_gets_each_answer(registry: Registry) -> None:
    registry.register("one", "127.0.0.2")

    names = [NAME.upper(), "waypost", "7f000002.addr.consul", NAME]
    answers = kdig(registry.port, "+tcp", "+keepopen", *names)

    assert answers.count("127.0.0.2") == 3


def test_a_spoofing_proof_case_comes_back_as_it_was_sent(registry: Registry) -> None:
    registry.register("one", "127.0.0.2")

    # kdig refuses an answer whose question differs from its own, case included.
    assert kdig(registry.port, "wEb.SeRvIcE.wAyPoSt") == ["127.0.0.2"]


def test_haproxy_follows_by_srv(registry: Registry, tmp_path: Path) -> None:
    with Backends() as backends, haproxy(tmp_path, registry.dns) as proxy:
        follow(registry, proxy.seen, backends.port)


@pytest.mark.slow  # nginx keeps a name that is not there for as long as one that is
def test_nginx_follows_by_address(registry: Registry, tmp_path: Path) -> None:
    with Backends() as backends, nginx(tmp_path, registry.dns, backends.port) as proxy:
        follow(registry, proxy.seen, backends.port)


def test_dnsperf_loses_nothing_while_an_instance_changes(
    registry: Registry, tmp_path: Path
) -> None:
    for number in range(10):
        registry.register(f"i{number}", f"10.0.0.{number}")
    (tmp_path / "queries").write_text(f"{NAME} A\n{NAME} SRV\n{NAME} AAAA\n")
    is_over = threading.Event()

    def change() -> None:
        at = 0
        while not is_over.wait(0.1):
            at += 1
            registry.register("i3", "10.0.0.3", version=str(at))

    changing = threading.Thread(target=change)
    changing.start()
    try:
        done = subprocess.run(
            [
                *(program("dnsperf", "dnsperf"), "-s", "127.0.0.1", "-p", registry.port),
                *("-d", str(tmp_path / "queries"), "-l", "2", "-q", "20", "-t", "10"),
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    finally:
        is_over.set()
        changing.join()

    sent, completed, lost = (
        int(found) for found in re.findall(r"Queries (?:sent|completed|lost): +(\d+)", done.stdout)
    )
    assert (lost, completed) == (0, sent)
    assert sent > 1_000
    assert re.search(r"NOERROR \d+ \(100.00%\)", done.stdout), done.stdout


@pytest.mark.parametrize(
    ("module", "says"),
    [
        pytest.param("glibc", "found, followed, and gone", id="glibc"),
        pytest.param("dns_sd", "found, scraped, and gone", id="prometheus", marks=pytest.mark.slow),
    ],
)
def test_whoever_asks_the_server_in_etc_resolv_conf_follows(
    module: str, says: str, tmp_path: Path
) -> None:
    (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\n")
    unshare = [program("unshare", "util-linux"), "--map-root-user", "--mount", "--net", "sh", "-ec"]
    script = (
        f"ip link set lo up; mount --bind {tmp_path}/resolv.conf /etc/resolv.conf; "
        f"exec {sys.executable} -m tests.doors.dns.{module} {tmp_path}"
    )
    done = subprocess.run(
        [*unshare, script], capture_output=True, text=True, timeout=100, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{says}\n"
