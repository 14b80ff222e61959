"""Every script says what it said when it was last read by somebody; ``scripts`` tells the rest."""

from pathlib import Path

import pytest

from .scripts import SCRIPTS, parts_of, play

CASES = [
    pytest.param(path, engine, id=f"{path.parent.name}/{path.stem}[{engine}]")
    for path in sorted(SCRIPTS.glob("*/*.txt"))
    for engine in (("raft", "paxos") if path.parent.name == "both" else (path.parent.name,))
]


@pytest.mark.parametrize(("path", "engine"), CASES)
def test_a_conversation_goes_as_it_is_written(path: Path, engine: str) -> None:
    text = path.read_text()

    played = play(text, engine)

    for (_, said), (_, command, expected) in zip(played, parts_of(text, engine), strict=True):
        assert said == expected, f"{path.name}: after {command!r}"


def test_there_are_scripts() -> None:
    assert len(CASES) > 50
