"""The page of the clients that are tested names tests that are there."""

import re

from tests.docs.runner import ROOT

PAGE = ROOT / "docs/doors/README.md"


def test_every_test_that_the_page_names_is_there() -> None:
    named = re.findall(r"`(tests/\S+?\.py)(?:::(\w+))?`", PAGE.read_text())

    assert len(named) > 10
    for path, name in named:
        text = (ROOT / path).read_text()
        assert not name or f"\ndef {name}(" in text, f"{path} has no {name}"


def test_every_client_has_a_test_for_each_column() -> None:
    rows = [line.split("|")[1:-1] for line in PAGE.read_text().splitlines() if line[:1] == "|"]

    for client, life, loss in rows[2:]:
        assert "::test_" in life, client
        assert "::test_" in loss or loss.strip().startswith("the same"), client
