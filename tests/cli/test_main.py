import json
import subprocess
import sys

import pytest
from tests.cli.programs import World

from waypost.cli.main import COMMANDS

HEAVY = ("asyncio", "granian", "starlette", "httpx2", "rich", "uvloop", "msgspec")


def imported_by(code: str) -> set[str]:
    code += "; import sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_version_is_told_without_importing_anything_heavy() -> None:
    code = "import sys; sys.argv[1:] = ['--version']; from waypost.cli.main import main; main()"

    assert not imported_by(code) & set(HEAVY)


@pytest.mark.parametrize("name", [n for n in COMMANDS if n not in ("serve", "bench", "demo")])
def test_a_client_command_never_imports_a_server(name: str) -> None:
    module = COMMANDS[name].partition(":")[0]
    code = f"import {module}, waypost.cli.asking, waypost.client.connect, waypost.cli.output"

    assert not imported_by(code) & {"granian", "starlette", "httpx2", "uvloop"}


def test_python_m_waypost_is_waypost(world: World) -> None:
    done = world.run("--version")

    assert done.code == 0
    assert done.out.startswith("waypost 0.")


def test_the_help_lists_every_command(world: World) -> None:
    done = world.run("--help")

    assert done.code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in done.out


@pytest.mark.parametrize(
    "arguments",
    [
        ("nothing-of-that-name",),
        ("resolve",),
        ("resolve", "web", "--no-such-option"),
        ("resolve", "web", "--policy", "random"),
        ("resolve", "web", "--max-stale", "soon"),
        ("resolve", "web", "--server", "http://127.0.0.1:8500"),
        ("register", "web", "--port", "80", "--meta", "no-equals-sign"),
        ("register", "Not A Name", "--port", "80"),
        ("register", "web", "--port", "0"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line_and_never_taken_for_an_answer(
    world: World, arguments: tuple[str, ...]
) -> None:
    done = world.run(*arguments)

    assert done.code == 64
    assert done.out == ""
    assert len(done.err.splitlines()) == 1
    assert done.err.startswith("waypost: ")


def test_no_registry_is_told_with_its_address_and_what_to_do(world: World) -> None:
    done = world.run("services", server="127.0.0.1:1")

    assert done.code == 3
    assert done.err.startswith("waypost: cannot list the services at 127.0.0.1:1: ")
    assert "waypost serve" in done.err


def test_an_error_is_json_when_json_was_asked_for(world: World) -> None:
    done = world.run("services", "--json", server="127.0.0.1:1")

    assert done.code == 3
    assert done.error["code"] == "unavailable"
    assert done.error["retryable"] is True
    assert done.error["server"] == "127.0.0.1:1"


def test_the_option_names_the_registry_rather_than_the_environment(
    world: World, server: str
) -> None:
    assert world.run("status", "--server", server, server="127.0.0.1:1").code == 0
