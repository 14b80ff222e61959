"""Durations as Go's."""

import pytest

from waypost.servers.consul.asked import Asked
from waypost.servers.consul.durations import parse_ns, read_ns, shown


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        ("10s", 10 * 10**9),
        ("1m30s", 90 * 10**9),
        ("100ms", 10**8),
        ("1.5h", 5400 * 10**9),
        ("-1s", -(10**9)),
        ("0", 0),
        ("5µs", 5000),
        (".5s", 5 * 10**8),
        ("3ns", 3),
    ],
)
def test_what_go_reads_is_read(text: str, ns: int) -> None:
    assert parse_ns(text) == ns


@pytest.mark.parametrize("text", ["", "10", "s", "10 s", "1d", "1s1", "abc", "1" * 99 + "s"])
def test_what_go_refuses_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="time: "):
        parse_ns(text)


def test_a_body_may_give_nanoseconds_or_nothing() -> None:
    assert (read_ns(5), read_ns("5s"), read_ns(""), read_ns(None)) == (5, 5 * 10**9, 0, 0)


@pytest.mark.parametrize(
    ("ns", "text"),
    [(0, "0s"), (10**10, "10s"), (90 * 10**9, "1m30s"), (10**8, "100ms"), (1500, "1.5µs"),
     (3600 * 10**9, "1h0m0s"), (3_661_500_000_000, "1h1m1.5s"), (-(10**9), "-1s")],
)  # fmt: skip
def test_it_is_shown_as_go_shows_it(ns: int, text: str) -> None:
    assert shown(ns) == text
    assert parse_ns(text) == ns


@pytest.mark.parametrize(
    ("query", "seconds"),
    [("", 300), ("wait=", 300), ("wait=0s", 300), ("wait=2s", 2), ("wait=20m", 600)],
)
def test_a_wait_has_a_default_and_a_limit(query: str, seconds: float) -> None:
    assert Asked(query.encode(), {}).wait_s == seconds


def test_datacenter_goes_before_dc_and_a_token_in_the_query_before_headers() -> None:
    asked = Asked(b"dc=a&datacenter=b&token=t", {"x-consul-token": "h"})

    assert (asked.datacenter, asked.token) == ("b", "t")
    assert Asked(b"", {"authorization": "Bearer x"}).token == "x"
