"""What holds for every endpoint: routes, methods, errors, headers."""

import asyncio

from tests.servers.mounted import Mounted, mounted, served


@served
async def test_status_names_the_leader_as_a_json_string(there: Mounted) -> None:
    answer = await there.ask("/v1/status/leader")

    assert answer.json() == there.standalone.native_address
    assert answer.headers["content-type"] == "application/json"
    assert "x-consul-index" not in answer.headers
    assert (await there.ask("/v1/status/peers")).json() == [there.standalone.native_address]


@served
async def test_an_unknown_path_is_404_in_plain_text(there: Mounted) -> None:
    answer = await there.ask("/v1/nothing", 404)

    assert answer.text == "Invalid URL path: /v1/nothing"
    assert answer.headers["content-type"].startswith("text/plain")


@served
async def test_what_is_not_supported_says_why(there: Mounted) -> None:
    assert (await there.ask("/v1/acl/tokens", 401)).text == "ACL support disabled"
    assert (await there.ask("/v1/agent/token/x", 401, method="PUT")).text == "ACL support disabled"
    assert "no service mesh" in (await there.ask("/v1/connect/intentions", 404)).text
    assert "prepared queries" in (await there.ask("/v1/query", 404)).text
    assert "SIGTERM" in (await there.ask("/v1/agent/leave", 404, method="PUT")).text


@served
async def test_a_wrong_method_is_405_and_names_the_right_ones(there: Mounted) -> None:
    answer = await there.ask("/v1/status/leader", 405, method="DELETE")

    assert answer.headers["allow"] == "OPTIONS,GET"
    options = await there.ask("/v1/status/leader", 200, method="OPTIONS")
    assert options.headers["allow"] == "OPTIONS,GET"
    assert options.content == b""


@served
async def test_pretty_is_indented(there: Mounted) -> None:
    assert (await there.ask("/v1/status/peers?pretty")).text.startswith("[\n    ")


def test_a_door_that_is_left_out_is_not_there() -> None:
    async def main() -> None:
        async with mounted(without={"consul"}) as there:
            answer = await there.ask("/v1/status/leader", 404)
            assert answer.headers["content-type"] == "application/problem+json"

    asyncio.run(main())
