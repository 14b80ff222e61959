"""What a message tells its reader to do can be done."""

import re
from pathlib import Path

import click
import pytest

from waypost.cli.main import commands
from waypost.servers.http.routes import OPERATIONS

SOURCE = Path(__file__).parent.parent / "src" / "waypost"
COMMAND = re.compile(r"['`]waypost ((?:[a-z-]+ ?)+)")
PATH = re.compile(r"/api/v1/[a-z-]+")


def told(pattern: re.Pattern[str]) -> set[str]:
    files = (path.read_text() for path in SOURCE.rglob("*.py"))
    return {match.strip() for text in files for match in pattern.findall(text)}


@pytest.mark.parametrize("words", sorted(told(COMMAND)))
def test_a_command_that_a_message_names_is_there(words: str) -> None:
    command: click.Command = commands
    for word in words.split():
        if word == "--":
            break
        if word.startswith("--"):
            options = [option for each in command.params for option in each.opts]
            assert word in [*options, "--version"], f"'waypost {words}': there is no {word!r}"
        elif isinstance(command, click.Group):
            found = command.get_command(click.Context(command), word)
            assert found is not None, f"'waypost {words}': there is no {word!r}"
            command = found


@pytest.mark.parametrize("path", sorted(told(PATH)))
def test_a_path_that_a_message_names_is_there(path: str) -> None:
    assert any(operation.path.startswith(path) for operation in OPERATIONS)
