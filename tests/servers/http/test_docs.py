"""What ``docs/http.md`` shows is what happens."""

import asyncio
import os
import re
from pathlib import Path

import pytest
from tests.servers.http.world import World, served

from waypost import errors
from waypost.servers.http import problems
from waypost.servers.http.problems import problem_of
from waypost.servers.http.routes import OPERATIONS
from waypost.servers.web import refusals

PAGE = (Path(__file__).parents[3] / "docs" / "http.md").read_text()
_EXAMPLE = re.compile(r"^\$ (.*?)(?=^\$ |\Z)", re.DOTALL | re.MULTILINE)


def examples() -> list[tuple[str, str]]:
    """Every command of the page and what it should print."""
    found: list[tuple[str, str]] = []
    for block in re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL):
        for example in _EXAMPLE.findall(block):
            lines = example.splitlines()
            end = 1
            while "\n".join(lines[:end]).count("'") % 2:
                end += 1
            found.append(("\n".join(lines[:end]), "\n".join(lines[end:])))
    return found


def pattern_of(expected: str) -> re.Pattern[str]:
    """Match it whatever its spaces are; ``...`` stands for anything."""
    parts = re.sub(r"\s", "", expected).split("...")
    return re.compile(".*?".join(map(re.escape, parts)), re.DOTALL)


@served
async def test_every_example_prints_what_the_page_shows(world: World) -> None:
    assert len(examples()) > 15
    environment = {"PATH": os.environ["PATH"], "no_proxy": "*"}
    for command, expected in examples():
        assert "localhost:8500" in command
        process = await asyncio.create_subprocess_shell(
            command.replace("localhost:8500", f"{world.host}:{world.port}"),
            stdout=asyncio.subprocess.PIPE,
            env=environment,
        )
        printed, _ = await process.communicate()
        text = re.sub(r"\s", "", printed.decode())
        assert pattern_of(expected).fullmatch(text), f"$ {command}\n{printed.decode()}"


def test_every_operation_is_told() -> None:
    for operation in OPERATIONS:
        assert operation.path in PAGE, operation.path
        for parameter in operation.parameters:
            assert (
                f"`{parameter.name.replace('*', 'KEY')}`" in PAGE or f"?{parameter.name}=" in PAGE
            )


def _kinds(module: object) -> list[type[errors.WaypostError]]:
    return [
        kind
        for kind in vars(module).values()
        if isinstance(kind, type) and issubclass(kind, errors.WaypostError)
    ]


@pytest.mark.parametrize(
    "kind",
    dict.fromkeys([*_kinds(errors), *_kinds(refusals), *_kinds(problems)]),
    ids=lambda k: k.__name__,
)
def test_every_error_is_told_with_its_status(kind: type[errors.WaypostError]) -> None:
    is_ours = kind.__name__ in (
        "WaypostError",
        "NoInstance",  # raised by a pick, which is the consumer's
        "ProtocolViolation",
        "CorruptData",
        "StorageFailed",
    )
    if is_ours:
        return
    error = kind("GET", ["PUT"]) if kind is refusals.WrongMethod else kind("x")  # type: ignore[call-arg, arg-type]
    problem = problem_of(error)

    rows = re.findall(r"^\| (`[^|]*`) \| (\d+) \|", PAGE, re.MULTILINE)
    told = {code.strip("` "): int(status) for codes, status in rows for code in codes.split(",")}
    assert told[problem.code] == problem.status
