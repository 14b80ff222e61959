import json
import socket
from pathlib import Path

import pytest
from tests.cli.programs import World

from waypost.cli import machine_checks, member_checks
from waypost.cli.member_checks import Seen, judge_together, parse_line
from waypost.client.addresses import Address
from waypost.errors import Invalid
from waypost.wire import ClusterState, MemberView, NodeStatus


def status(name: str, **other: object) -> NodeStatus:
    fields: dict[str, object] = {
        "node": name,
        "version": "1.0",
        "cluster": "c1",
        "engine": "raft",
        "role": "leader" if name == "a" else "follower",
        "leader": "a",
        "epoch": 1,
        "revision": 9,
        "durable": True,
        "writable": True,
        "uptime_s": 1.0,
        "services": 0,
        "instances": 0,
        "sessions": 0,
        "connections": 0,
        "watchers": 0,
        "members": ["a", "b"],
        **other,
    }
    return NodeStatus(**fields)  # type: ignore[arg-type]


def seen(name: str, heard_ms: dict[str, int] | None = None, **other: object) -> Seen:
    state = None
    if heard_ms is not None:
        members = [MemberView(n, 1, "", "follower", True, 9, ms) for n, ms in heard_ms.items()]
        state = ClusterState(name, "c1", "raft", 1, True, "a", 9, 9, members)
    return Seen(name, "h:1", status(name, **other), state, 1.0, "")


def states(found: list[machine_checks.Finding], check: str) -> list[str]:
    return [each.state for each in found if each.check == check]


def test_members_that_agree_are_well() -> None:
    found = judge_together([seen("a", {"a": 0, "b": 30}), seen("b", {"a": 20, "b": 0})])

    assert {each.state for each in found} == {"good"}


@pytest.mark.parametrize(
    ("other", "check", "state"),
    [
        ({"cluster": "c2"}, "cluster", "bad"),
        ({"version": "0.9"}, "version", "poor"),
        ({"epoch": 2}, "epoch", "poor"),
        ({"leader": "b"}, "leader", "poor"),
        ({"writable": False}, "disk", "bad"),
    ],
)
def test_members_that_differ_are_told_apart_with_a_remedy(
    other: dict[str, object], check: str, state: str
) -> None:
    found = judge_together([seen("a"), seen("b", **other)])

    (finding,) = [each for each in found if each.check == check]
    assert finding.state == state
    assert "b" in finding.what
    assert finding.remedy


def test_a_cluster_that_nobody_leads_needs_mending() -> None:
    found = judge_together([seen("a", leader=""), seen("b", leader="")])

    assert states(found, "leader") == ["bad"]


@pytest.mark.parametrize("heard_ms", [-1, 60_000])
def test_a_member_that_another_does_not_hear_is_named(heard_ms: int) -> None:
    found = judge_together([seen("a", {"a": 0, "b": heard_ms}), seen("b")])

    (finding,) = [each for each in found if each.check == "between members"]
    assert finding.state == "bad"
    assert finding.what == "a does not hear b"


def test_nobody_who_answers_says_nothing_together() -> None:
    assert judge_together([Seen("a", "h:1", None, None, 0.0, "no answer")]) == []


def test_a_line_names_members_or_only_where_they_are() -> None:
    assert parse_line("a=10.0.0.1:1, b=[::1]:2") == {
        "a": Address("10.0.0.1", 1),
        "b": Address("::1", 2),
    }
    assert parse_line("h:1,h:2") == {"h:1": Address("h", 1), "h:2": Address("h", 2)}
    with pytest.raises(Invalid):
        parse_line("a=,b=")


@pytest.mark.parametrize(
    ("took", "state"), [([1.0] * 100, "good"), ([1.0] * 98 + [30, 40], "poor"), ([200.0], "bad")]
)
def test_a_disk_is_judged_by_its_slow_syncs(took: list[float], state: str) -> None:
    assert machine_checks.judge_fsyncs(took).state == state


def test_syncs_are_timed_and_leave_nothing_behind(tmp_path: Path) -> None:
    took = machine_checks.time_fsyncs(tmp_path)

    assert len(took) == machine_checks.FSYNCS
    assert took == sorted(took)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_cannot_be_written_is_found_bad() -> None:
    found = machine_checks.check_disk(Path("/proc/self"))

    assert states(found, "fsync") == ["bad"]


def test_a_file_system_is_known_by_its_longest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"d / ext4 rw 0 0\nt {tmp_path} tmpfs rw 0 0\nx {tmp_path}/deep xfs rw 0 0\n")

    assert machine_checks.file_system_of(tmp_path / "data", mounts) == "tmpfs"
    assert machine_checks.file_system_of(Path("/elsewhere"), mounts) == "ext4"
    assert machine_checks.file_system_of(tmp_path, tmp_path / "none") == ""


def test_a_port_that_is_held_is_found_with_its_holder() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        held = machine_checks.check_port("native port", port)
    free = machine_checks.check_port("native port", port)

    assert (held.state, free.state) == ("bad", "good")
    assert "process" in held.what
    assert held.remedy


def test_a_whole_registry_is_well_and_its_exit_code_says_so(world: World, tmp_path: Path) -> None:
    with world.serving("--data-dir", str(tmp_path / "data")) as registry:
        done = world.run(
            *("doctor", "--data-dir", str(tmp_path / "data"), "--cluster", registry.native),
            *("--port", "0", "--http-port", "0", "--dns-port", "0"),
        )

    found = {each["check"]: each for each in done.json["findings"]}
    assert found["member local"]["state"] in ("good", "poor")
    assert found["leader"]["what"] == "local"
    assert str(registry.process.pid) in found["data"]["what"]
    bad = [each for each in done.json["findings"] if each["state"] == "bad"]
    assert (done.code, done.json["well"]) == ((5, False) if bad else (0, True))
    assert all(each["check"] in ("fsync", "space", "open files", "disk") for each in bad)


def test_a_member_that_does_not_answer_must_be_mended(world: World) -> None:
    done = world.run(
        "doctor", "--cluster", "a=127.0.0.1:1", "--port", "0", "--http-port", "0", "--dns-port", "0"
    )

    assert done.code == 5
    (finding,) = [each for each in done.json["findings"] if each["check"] == "member a"]
    assert finding["state"] == "bad"
    assert "start it" in finding["remedy"]


def test_something_else_on_the_port_is_not_taken_for_a_member() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(5)
        address = Address("127.0.0.1", server.getsockname()[1])
        # Nobody accepts: the connection waits in the backlog, and no answer comes.
        told = member_checks.look("a", address)

    assert told.status is None
    assert "no answer" in told.trouble


def test_people_see_a_table_and_below_it_what_to_do(world: World) -> None:
    shown = world.on_a_terminal(
        "doctor", "--cluster", "a=127.0.0.1:1", "--port", "0", "--http-port", "0", "--dns-port", "0"
    )

    assert shown.code == 5
    assert "member a: start it" in " ".join(shown.out.split())
    with pytest.raises(json.JSONDecodeError):
        json.loads(shown.out)
