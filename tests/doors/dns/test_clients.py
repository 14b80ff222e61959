"""dig, kdig and dnsperf, as they are, with one node: what is long, kept, mixed in case, or fast."""

import re
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.doors.dns.programs import Registry, dig, kdig
from tests.doors.life import SERVICE
from tests.doors.program import installed

NAME = f"{SERVICE}.service.waypost"


@pytest.fixture
def registry() -> Iterator[Registry]:
    with Registry() as registry:
        yield registry


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
                *(installed("dnsperf", "dnsperf"), "-s", "127.0.0.1", "-p", registry.port),
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
