"""Filter expressions, as Consul reads them."""

import contextlib
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.servers.consul.filters import ANY, CHARS_MAX, parse
from waypost.servers.consul.refusals import Refusal

FIELDS = {
    "Node": None,
    "Port": None,
    "On": None,
    "Tags": None,
    "Meta": ANY,
    "Service": {"Meta": ANY, "Weights": {"Passing": None}},
    "Checks": {"Status": None},
}
DATUM = {
    "Node": "node-1",
    "Port": 80,
    "On": True,
    "Tags": ("a", "b c"),
    "Meta": {"k": "v", "a b": "x", "dots.in": "y"},
    "Service": {"Meta": {"zone": "eu"}, "Weights": {"Passing": 3}},
    "Checks": [{"Status": "passing"}, {"Status": "critical"}],
}


@pytest.mark.parametrize(
    ("expression", "holds"),
    [
        ('Node == "node-1"', True),
        ("Node == `node-1`", True),
        ("Node == node-1", True),
        ('Node != "node-1"', False),
        ("Port == 80", True),
        ('Port == "81"', False),
        ("On == true", True),
        ('"a" in Tags', True),
        ("a in Tags", True),
        ('"z" not in Tags', True),
        ('"b" in Tags', False),
        ('Tags contains "b c"', True),
        ('Tags not contains "a"', False),
        ('"ode" in Node', True),
        ('Node contains "x"', False),
        ("Tags is empty", False),
        ("Tags is not empty", True),
        ("Meta is not empty", True),
        ('"k" in Meta', True),
        ('"v" in Meta', False),
        ('Meta.k == "v"', True),
        ('Meta["a b"] == "x"', True),
        ('Meta["dots.in"] == y', True),
        ('Meta.none == "v"', False),
        ('Meta.none != "v"', True),
        ("Meta.none is empty", True),
        ('Service.Meta.zone == "eu" and Port == 80', True),
        ("Service.Weights.Passing == 3", True),
        ('Node == "x" or Port == 80', True),
        ('Node == "x" or Port == 80 and Port == 81', False),
        ('not Node == "x"', True),
        ('not (Node == "node-1" and Port == 80)', False),
        ('Checks.Status == "critical"', True),
        ('Checks.Status != "critical"', False),
        ('Node matches "^node-[0-9]+$"', True),
        ('Node not matches "^x"', True),
        ('Node == "say \\"hi\\""', False),
        ("  ( Port==80 )  ", True),
    ],
)
def test_it_holds_or_not(expression: str, holds: bool) -> None:
    assert parse(expression, FIELDS)(DATUM) is holds


@pytest.mark.parametrize(
    "expression",
    [
        "Node",
        "Node ==",
        '== "x"',
        "Node = 1",
        'Nothing == "x"',
        'Service.Nothing == "x"',
        'Node.more == "x"',
        "(Node == x",
        "Node == x)",
        "Node == x and",
        "Node is full",
        "Node not == x",
        'Node matches "("',
        'Node == "open',
        "Node == x Port == 80",
        "Port == many",
        "On == perhaps",
        "(" * 500 + "Port == 80" + ")" * 500,
        " and ".join(["Port == 80"] * 300),
        "Node == " + "x" * CHARS_MAX,
    ],
)
def test_what_is_wrong_is_refused_with_400(expression: str) -> None:
    with pytest.raises(Refusal) as refused:
        parse(expression, FIELDS)(DATUM)

    assert refused.value.status == 400


@given(st.text(max_size=60) | st.lists(st.sampled_from(
    ["Node", "Meta.k", "==", "!=", "(", ")", "and", "or", "not", "in", "is", "empty", '"x"', "80"]
), max_size=12).map(" ".join))  # fmt: skip
def test_whatever_is_given_is_read_or_refused(expression: str) -> None:
    with contextlib.suppress(Refusal):
        assert parse(expression, FIELDS)(DATUM) in (True, False)


def test_an_expression_that_would_take_forever_takes_no_time() -> None:
    datum = {"Node": "a" * 5000 + "!"}
    begun = time.process_time()

    assert parse('Node matches "^(a+)+$"', FIELDS)(datum) is False
    assert time.process_time() - begun < 1


def test_without_the_library_matches_is_refused_and_the_rest_works(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "re2", None)

    with pytest.raises(Refusal, match="RE2"):
        parse('Node matches "x"', FIELDS)
    assert parse('Node contains "node"', FIELDS)(DATUM)
