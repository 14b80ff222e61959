import re
from xml.etree import ElementTree

from tests.sim.checkers.histories import op, random_history

from waypost.sim.checkers.history import decode_history, encode_history
from waypost.sim.checkers.models import Services
from waypost.sim.checkers.timeline import Mark, draw
from waypost.sim.checkers.wgl import check_linearizable

HISTORY = [
    op("x", "register", "a", "1", at=(0, 100)),
    op("y", "resolve", result=(("a", "1", "passing"),), at=(10, 20)),
    op("z", "resolve", result=(), at=(30, 40)),
    op("z", "register", "<b>", "2", at=(50, None)),
]


def svg_of(page: str) -> ElementTree.Element:
    found = re.search(r"<svg.*</svg>", page, re.DOTALL)
    assert found is not None
    quoted = re.sub(r" class=(\w+)", r' class="\1"', found[0])
    return ElementTree.fromstring(quoted.replace(' xmlns="http://www.w3.org/2000/svg"', ""))


def test_every_operation_has_a_bar_and_the_impossible_one_is_marked() -> None:
    verdict = check_linearizable(Services(), HISTORY)

    page = draw("a < b", HISTORY, verdict, [Mark(25, "leader crashed")])

    bars = svg_of(page).findall("g/rect")
    assert [bar.get("class") for bar in bars] == ["write", "read", "culprit", "open"]
    assert "a &lt; b" in page
    assert "leader crashed" in page
    assert "<b>" not in page.split("<svg")[1]
    assert "violation" in page


def test_the_page_fetches_nothing() -> None:
    page = draw("x", HISTORY)

    assert "src=" not in page
    assert "href=" not in page
    assert "<script" not in page


def test_what_a_client_has_open_at_once_is_drawn_in_rows_of_their_own() -> None:
    both = [op("x", "resolve", result=(), at=(0, 10)), op("x", "resolve", result=(), at=(5, 15))]

    bars = svg_of(draw("x", both)).findall("g/rect")

    assert bars[0].get("y") != bars[1].get("y")


def test_times_are_drawn_in_their_order() -> None:
    history = random_history(4, count=60, clients=4)
    bars = svg_of(draw("x", history)).findall("g/rect")

    starts = [float(bar.get("x") or 0) for bar in bars]
    calls = [each.call for each in history]
    assert sorted(range(60), key=lambda n: calls[n]) == sorted(range(60), key=lambda n: starts[n])


def test_a_history_in_a_file_is_the_same_when_it_is_read_back() -> None:
    history = [*random_history(5, count=40, clients=3), *HISTORY]

    assert decode_history(encode_history(history)) == history
