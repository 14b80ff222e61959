"""Programs as probes: those that behave, and those that do not."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from waypost.checks import OUTPUT_BYTES_MAX, Check
from waypost.node.checks.allowed import Allowed
from waypost.node.checks.found import Found
from waypost.node.checks.probing import Probes
from waypost.node.checks.scripts import PRINTED_BYTES_MAX, Scripts


def run(work: Awaitable[Any]) -> Any:
    async def main() -> Any:
        return await work

    return uvloop.run(main())


def script(*args: str, timeout_ms: int = 5_000) -> Check:
    return Check("c", kind="script", args=args, runs_on="n", timeout_ms=timeout_ms)


def found(*args: str, timeout_ms: int = 5_000) -> Found:
    return run(Probes(Allowed(), Scripts()).probe(script(*args, timeout_ms=timeout_ms)))


def is_there(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.mark.parametrize(
    ("code", "status"), [(0, "passing"), (1, "warning"), (2, "critical"), (127, "critical")]
)
def test_the_exit_code_decides_and_what_was_printed_is_the_output(code: int, status: str) -> None:
    said = found("sh", "-c", f"echo fine; echo indeed >&2; exit {code}")

    assert said == Found(status, "fine\nindeed\n")


def test_a_script_that_prints_nothing_is_told_by_its_exit_code() -> None:
    assert found("false") == Found("warning", "false: exit code 1")


def test_a_program_that_is_not_there_is_critical_and_named() -> None:
    said = found("/no/such/program")

    assert said.status == "critical"
    assert "/no/such/program could not be started" in said.output


def test_no_shell_reads_the_arguments() -> None:
    assert found("echo", "$HOME; false") == Found("passing", "$HOME; false\n")


def test_a_script_has_nothing_to_read_and_none_of_the_credentials_of_the_registry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WAYPOST_ETCD_PASSWORD", "secret")
    monkeypatch.setenv("HERE", "too")

    assert found("sh", "-c", "cat; env").output.count("secret") == 0
    assert "HERE=too" in found("env").output


def test_a_script_whose_time_is_up_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    code = f"echo begun; sleep 100 & echo $! > {pids}; echo $$ >> {pids}; wait"
    began = time.monotonic()

    said = found("sh", "-c", code, timeout_ms=500)

    assert (said.status, said.is_slow) == ("critical", True)
    assert said.output == "sh: timed out after 0.5 s\nbegun\n"
    assert time.monotonic() - began < 3
    deadline = time.monotonic() + 5
    while any(map(is_there, map(int, pids.read_text().split()))):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_script_is_over_when_it_ends_though_what_it_left_behind_holds_its_output(
    tmp_path: Path,
) -> None:
    pid, began = tmp_path / "pid", time.monotonic()

    said = found("sh", "-c", f"echo fine; sleep 100 & echo $! > {pid}")

    assert said == Found("passing", "fine\n")
    assert time.monotonic() - began < 3
    left = int(pid.read_text())
    assert is_there(left)
    os.kill(left, signal.SIGKILL)


def test_of_a_flood_the_last_is_kept_and_it_is_soon_not_listened_to() -> None:
    said = found("sh", "-c", f"head -c {PRINTED_BYTES_MAX // 2} /dev/zero | tr '\\0' x; echo end")
    assert said.status == "passing"
    assert said.output == "x" * (OUTPUT_BYTES_MAX - 4) + "end\n"

    began = time.monotonic()
    flood = found("yes", timeout_ms=60_000)
    assert flood.status == "critical"
    assert time.monotonic() - began < 20


def test_so_many_run_at_once_and_the_others_wait_their_turn(tmp_path: Path) -> None:
    scripts = Scripts(at_once=2)
    code = f"mkdir {tmp_path}/$$; ls {tmp_path} | wc -l; sleep 0.1; rmdir {tmp_path}/$$"

    async def several() -> list[Found]:
        check = script("sh", "-c", code)
        return await asyncio.gather(*(scripts.run(check) for _ in range(6)))

    assert {each.output.strip() for each in run(several())} <= {"1", "2"}


def test_a_script_that_nobody_waits_for_any_more_is_killed(tmp_path: Path) -> None:
    pid = tmp_path / "pid"

    async def cancelled() -> None:
        code = f"echo $$ > {pid}.new; mv {pid}.new {pid}; sleep 100"
        task = asyncio.ensure_future(Scripts().run(script("sh", "-c", code)))
        async with asyncio.timeout(10):
            while not pid.exists():
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(cancelled())
    deadline = time.monotonic() + 5
    while is_there(int(pid.read_text())):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_node_that_was_not_told_to_runs_no_script(tmp_path: Path) -> None:
    said = run(Probes(Allowed()).probe(script("touch", str(tmp_path / "ran"))))

    assert said.status == "critical"
    assert "--check-scripts" in said.output
    assert not (tmp_path / "ran").exists()
