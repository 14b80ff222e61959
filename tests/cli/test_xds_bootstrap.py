import json
from typing import Any

import pytest
from tests.cli.programs import World


def bootstrap(world: World, *options: str) -> Any:
    done = world.run("xds-bootstrap", *options)
    assert done.code == 0, done.err
    return json.loads(done.out)


def uris(printed: Any) -> list[str]:
    return [server["server_uri"] for server in printed["xds_servers"]]


def test_it_has_what_the_pickiest_client_needs(world: World) -> None:
    printed = bootstrap(world, "--zone", "north", "--id", "c1")

    assert printed["node"] == {
        "id": "c1",
        "locality": {"region": "", "zone": "north", "sub_zone": ""},
    }
    assert uris(printed) == ["127.0.0.1:8502"]
    assert printed["xds_servers"][0]["channel_creds"] == [{"type": "insecure"}]


@pytest.mark.parametrize(
    ("servers", "targets"),
    [
        ("10.0.0.1", ["10.0.0.1:8502"]),
        ("10.0.0.1:1, 10.0.0.2:2", ["ipv4:10.0.0.1:1,10.0.0.2:2"]),
        ("[::1]:1,[::2]", ["ipv6:[::1]:1,[::2]:8502"]),
        ("a.example:1,b.example:2", ["a.example:1", "b.example:2"]),
        ("10.0.0.1,b.example", ["10.0.0.1:8502", "b.example:8502"]),
    ],
)
def test_several_nodes_are_one_target_where_they_can_be(
    world: World, servers: str, targets: list[str]
) -> None:
    assert uris(bootstrap(world, "--server", servers)) == targets


@pytest.mark.parametrize("servers", ["", "10.0.0.1:http", ":8502", "10.0.0.1:0", "a,,b"])
def test_what_is_no_address_is_refused(world: World, servers: str) -> None:
    done = world.run("xds-bootstrap", "--server", servers)

    assert done.code == 64
    assert "is not an address: give host and port" in done.err
