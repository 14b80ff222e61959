"""What ``serve`` is told of DNS."""

from typing import Any

import click
import pytest
from click.testing import CliRunner

from waypost.cli.door_options import door_options


def told(*arguments: str) -> dict[str, Any]:
    heard: dict[str, Any] = {}

    @click.command()
    @door_options
    def command(doors: dict[str, Any]) -> int:
        heard.update(doors)
        return 0

    CliRunner().invoke(command, arguments, catch_exceptions=False, standalone_mode=False)
    return heard


def test_without_a_word_it_listens_on_8600_keeps_nothing_and_forwards_nothing() -> None:
    doors = told()

    assert doors["dns_port"] == 8600
    assert (doors["dns"].ttl_s, doors["dns"].ttls_s, doors["dns"].forward) == (0, {}, ())


def test_a_door_that_is_left_out_has_no_port() -> None:
    assert told("--without", "dns", "--dns-port", "53")["dns_port"] is None


def test_ttls_are_for_all_or_for_one_service() -> None:
    settings = told("--dns-ttl", "2,orders=10,team-a/orders=0")["dns"]

    assert settings.ttl_of("billing") == 2
    assert settings.ttl_of("orders") == 10
    assert settings.ttl_of("team-a/orders") == 0


@pytest.mark.parametrize(
    ("address", "server"),
    [
        ("10.0.0.2", ("10.0.0.2", 53)),
        ("10.0.0.2:5353", ("10.0.0.2", 5353)),
        ("2001:db8::1", ("2001:db8::1", 53)),
        ("[2001:db8::1]:5353", ("2001:db8::1", 5353)),
    ],
)
def test_a_server_to_forward_to_is_an_address_with_or_without_a_port(
    address: str, server: tuple[str, int]
) -> None:
    assert told("--dns-forward", f"{address},127.0.0.1:54")["dns"].forward == (
        server,
        ("127.0.0.1", 54),
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("--dns-ttl", "-1"),
        ("--dns-ttl", "1.5"),
        ("--dns-ttl", "86401"),
        ("--dns-ttl", "orders="),
        ("--dns-forward", "dns.example:53"),
        ("--dns-forward", "10.0.0.1:0"),
        ("--dns-forward", "10.0.0.1:x"),
    ],
)
def test_what_makes_no_sense_is_refused(arguments: tuple[str, str]) -> None:
    with pytest.raises(click.UsageError, match=arguments[0]):
        told(*arguments)
