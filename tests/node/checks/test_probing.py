"""One probe, against targets that behave and targets that do not."""

import asyncio
import time
from collections.abc import Awaitable
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st
from tests.node.checks.servers import Conduct, floods, hangs, ok, says, target

from waypost.checks import OUTPUT_BYTES_MAX, Check
from waypost.errors import Invalid
from waypost.node.checks import grpc, http
from waypost.node.checks.allowed import Allowed
from waypost.node.checks.found import Found
from waypost.node.checks.probing import Probes


def run(work: Awaitable[Any]) -> Any:
    async def main() -> Any:
        return await work

    return uvloop.run(main())


async def probed(conduct: Conduct, *, timeout_ms: int = 2_000, **fields: Any) -> Found:
    async with target(conduct) as there:
        check = Check(
            "c",
            kind=fields.pop("kind", "http"),
            target=fields.pop("target", "http://127.0.0.1:{}/health").format(there.port),
            timeout_ms=timeout_ms,
            **fields,
        )
        return await Probes(Allowed()).probe(check)


@pytest.mark.parametrize(
    ("status", "found"),
    [
        ("200 OK", "passing"),
        ("204 No Content", "passing"),
        ("299 Fine", "passing"),
        ("301 Moved Permanently\r\nLocation: http://169.254.169.254/", "critical"),
        ("404 Not Found", "critical"),
        ("429 Too Many Requests", "warning"),
        ("500 Internal Server Error", "critical"),
        ("503", "critical"),
    ],
)
def test_the_status_of_an_answer_decides_and_no_redirect_is_followed(
    status: str, found: str
) -> None:
    said = run(probed(ok(b"words", status)))

    assert said.status == found
    assert f": {status[:3]}" in said.output


def test_the_body_is_shown_up_to_four_kib() -> None:
    said = run(probed(ok(b"x" * 100_000)))

    assert said.status == "passing"
    assert said.output.endswith("Output: " + "x" * OUTPUT_BYTES_MAX)


def test_a_body_in_chunks_is_shown_without_their_sizes() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    said = run(probed(says(head + b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n", then_waits=True)))

    assert said.output.endswith("200 OK Output: abcdefg")


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    said = run(probed(says(b"HTTP/1.0 200 OK\n\nfine")))

    assert (said.status, said.output[-12:]) == ("passing", "Output: fine")


def test_informational_answers_are_not_the_answer() -> None:
    said = run(probed(says(b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\nHTTP/1.1 500 Oh\r\n\r\n")))

    assert (said.status, "500 Oh" in said.output) == ("critical", True)


@pytest.mark.parametrize(
    ("conduct", "why"),
    [
        (hangs, "timed out after 0.2 s"),
        (says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", then_waits=True), "timed out"),
        (says(b""), "without an answer"),
        (says(b"SSH-2.0-OpenSSH_9.2\r\n"), "not HTTP/1"),
        (says(b"HTTP/2 200\r\n\r\n"), "not HTTP/1"),
        (floods(b"HTTP/1.1 200 OK\r\n", b"X-Flood: yes\r\n" * 100), "longer than 16 KiB"),
        (floods(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 100), "informational"),
        (floods(b"", b"\0" * 1_000), "not HTTP/1"),
    ],
)
def test_a_target_that_misbehaves_is_critical_and_costs_its_timeout_at_most(
    conduct: Conduct, why: str
) -> None:
    began = time.monotonic()
    said = run(probed(conduct, timeout_ms=200))

    assert said.status == "critical"
    assert why in said.output
    assert len(said.output) < 5_000
    assert time.monotonic() - began < 5
    assert said.is_slow == ("timed out" in why)


def test_a_flood_after_a_good_status_is_cut_off_at_once() -> None:
    began = time.monotonic()
    said = run(probed(floods(b"HTTP/1.1 200 OK\r\n\r\n", b"flood" * 10_000), timeout_ms=10_000))

    assert said.status == "passing"
    assert len(said.output) < 5_000
    assert time.monotonic() - began < 5


def test_what_is_sent_is_what_the_check_says() -> None:
    check = Check(
        "c",
        kind="http",
        target="http://example.com:8080/a%20b?c=d",
        method="POST",
        headers={"Host": "shop.example", "X-Token": "t"},
        body="é",
    )

    sent = http.request_of(check)

    head, _, body = sent.partition(b"\r\n\r\n")
    assert head.splitlines()[0] == b"POST /a%20b?c=d HTTP/1.1"
    assert sorted(head.splitlines()[1:]) == [
        b"accept: */*",
        b"connection: close",
        b"content-length: 2",
        b"host: shop.example",
        b"user-agent: Waypost health check",
        b"waypost-probe: 1",
        b"x-token: t",
    ]
    assert body == "é".encode()


def test_a_port_that_takes_connections_passes_a_tcp_check() -> None:
    said = run(probed(hangs, kind="tcp", target="127.0.0.1:{}"))

    assert (said.status, "Success" in said.output) == ("passing", True)


def test_a_port_that_refuses_is_critical_and_says_so() -> None:
    async def refused() -> Found:
        async with target(hangs) as there:
            port = there.port
        await asyncio.sleep(0)
        return await Probes(Allowed()).probe(Check("c", kind="tcp", target=f"127.0.0.1:{port}"))

    said = run(refused())
    assert (said.status, "connection refused" in said.output) == ("critical", True)


@pytest.mark.parametrize("kind", ["http", "tcp"])
def test_a_name_that_does_not_exist_is_critical_and_no_accident(kind: Any) -> None:
    for name in ("no-such-host.invalid", "-..-", "a" * 70 + ".invalid"):
        at = f"http://{name}:1/" if kind == "http" else f"{name}:1"
        said = run(Probes(Allowed()).probe(Check("c", kind=kind, target=at)))
        assert said.status == "critical"


# Where probes may go


@pytest.mark.parametrize(
    ("address", "permitted"),
    [
        ("10.0.0.1", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("2001:db8::1", True),
        ("169.254.169.254", False),
        ("::ffff:169.254.169.254", False),
        ("2002:a9fe:a9fe::1", False),
        ("fe80::1%eth0", False),
        ("fd00:ec2::254", False),
        ("100.100.100.200", False),
        ("0.0.0.0", False),
        ("::", False),
        ("224.0.0.1", False),
        ("not an address", False),
    ],
)
def test_by_default_metadata_services_are_out_of_reach(address: str, permitted: bool) -> None:
    assert Allowed().permits(address) is permitted


def test_with_networks_given_only_those_are_in_reach() -> None:
    allowed = Allowed(["10.0.0.0/8", "::1"])

    assert allowed.permits("10.9.8.7")
    assert allowed.permits("::1")
    assert not allowed.permits("127.0.0.1")
    assert not allowed.permits("192.168.0.1")
    assert not Allowed([]).permits("10.0.0.1")
    with pytest.raises(Invalid, match="no network"):
        Allowed(["10.0.0.0/33"])


def test_a_probe_to_a_forbidden_address_is_never_sent() -> None:
    async def main() -> tuple[list[Found], int]:
        async with target(ok()) as there:
            probes = Probes(Allowed(["10.0.0.0/8"]))
            found = [
                await probes.probe(Check("c", kind="http", target=f"http://{host}:{there.port}/"))
                for host in ("127.0.0.1", "localhost")
            ]
            return found, there.asked

    found, asked = run(main())
    assert [each.status for each in found] == ["critical", "critical"]
    assert all("may not probe" in each.output for each in found)
    assert asked == 0


# gRPC


def frames(*given: tuple[int, int, int, bytes]) -> bytes:
    return b"".join(
        len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload
        for kind, flags, stream, payload in given
    )


SETTINGS = (4, 0, 0, b"")
SERVING = (0, 0, 1, b"\0\0\0\0\2\x08\1")
GRPC = Check("c", kind="grpc", target="10.0.0.1:50051/shop")


@pytest.mark.parametrize(
    ("sent", "status", "why"),
    [
        ((SETTINGS, (1, 4, 1, b"\x88"), SERVING), "passing", "SERVING"),
        ((SETTINGS, (0, 8, 1, b"\3\0\0\0\0\2\x08\1\0\0\0")), "passing", "SERVING"),
        ((SETTINGS, (0, 0, 1, b"\0\0\0\0\2\x08\2")), "critical", "NOT_SERVING"),
        ((SETTINGS, (0, 0, 1, b"\0\0\0\0\2\x08\3")), "critical", "SERVICE_UNKNOWN"),
        ((SETTINGS, (0, 0, 1, b"\0\0\0\0\0")), "critical", "UNKNOWN"),
        ((SETTINGS, (1, 5, 1, b"\x88")), "critical", "has no health service"),
        ((SETTINGS, (3, 0, 1, b"\0\0\0\7")), "critical", "RST_STREAM, error 7"),
        ((SETTINGS, (7, 0, 0, b"\0\0\0\0\0\0\0\1")), "critical", "GOAWAY, error 1"),
        ((SETTINGS, (0, 0, 1, b"\1\0\0\0\1x")), "critical", "compressed"),
        (((0, 0, 0, b"HTTP"),), "critical", "not HTTP/2"),
        ((SETTINGS,) * 100, "critical", "more than an answer may have"),
    ],
)
def test_the_message_of_the_health_service_decides(
    sent: tuple[tuple[int, int, int, bytes], ...], status: str, why: str
) -> None:
    data = frames(*sent)
    for size in (1, 7, len(data)):
        answer = grpc.Answer(GRPC)
        found = None
        for start in range(0, len(data), size):
            found = found or answer.feed(data[start : start + size])
        assert found is not None
        assert (found.status, why in found.output) == (status, True)


@given(st.binary(max_size=400), st.integers(1, 50))
def test_no_bytes_break_a_reader(data: bytes, size: int) -> None:
    for prefix in (b"", b"HTTP/1.1 200 OK\r\n", frames(SETTINGS)):
        for reader in (grpc.Answer(GRPC), http.Answer(Check("c", kind="http"))):
            whole = prefix + data
            found: Found | None = None
            for start in range(0, len(whole), size):
                found = found or reader.feed(whole[start : start + size])
            assert (found or reader.end()).status in ("passing", "warning", "critical")


def test_a_real_grpc_server_is_asked_the_way_it_understands() -> None:
    grpcio = pytest.importorskip("grpc")
    answers = {b"": b"\x08\1", b"\x0a\4shop": b"\x08\2", b"\x0a\x81\1" + b"x" * 129: b"\x08\1"}

    def check(request: bytes, context: Any) -> bytes:
        if request not in answers:
            context.abort(grpcio.StatusCode.NOT_FOUND, "unknown service")
        return answers[request]

    from concurrent.futures import ThreadPoolExecutor

    server = grpcio.server(ThreadPoolExecutor(2))
    method = grpcio.unary_unary_rpc_method_handler(check)
    server.add_generic_rpc_handlers(
        (grpcio.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": method}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        said = {
            name: run(
                Probes(Allowed()).probe(
                    Check("c", kind="grpc", target=f"127.0.0.1:{port}{name}", timeout_ms=5_000)
                )
            )
            for name in ("", "/shop", "/other", "/" + "x" * 129)
        }
    finally:
        server.stop(None).wait()
    assert said[""].status == said["/" + "x" * 129].status == "passing"
    assert "NOT_SERVING" in said["/shop"].output
    assert "does not know that name" in said["/other"].output
