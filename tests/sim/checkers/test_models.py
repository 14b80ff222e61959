import msgspec
from tests.sim.checkers.histories import op

from waypost.sim.checkers.history import Operation
from waypost.sim.checkers.models import Registry
from waypost.sim.checkers.witness import check_witness


def verdict(*history: Operation) -> str:
    return check_witness(Registry(), history).outcome


def swap(before: str, after: str, result: str, index: int) -> Operation:
    return op("x", "cas", before, after, result=result, at=(index, None), index=index, key="k")


def answered(operation: Operation, back: int) -> Operation:
    return msgspec.structs.replace(operation, back=back)


def test_a_key_is_swapped_only_from_what_it_holds() -> None:
    first = answered(swap("", "1", "ok", 1), 1)
    assert verdict(first, answered(swap("1", "2", "ok", 2), 2)) == "ok"
    assert verdict(first, answered(swap("0", "2", "no", 2), 2)) == "ok"
    assert verdict(first, answered(swap("0", "2", "ok", 2), 2)) == "violation"
    assert verdict(first, answered(swap("1", "2", "no", 2), 2)) == "violation"


def test_a_swap_that_nobody_heard_of_took_effect_if_it_fitted() -> None:
    first = answered(swap("", "1", "ok", 1), 1)
    then = op("y", "read", result="2", at=(9, 10), index=3, key="k")
    assert verdict(first, swap("1", "2", "", 2), then) == "ok"
    assert verdict(first, swap("0", "2", "", 2), then) == "violation"


def test_a_key_that_was_removed_holds_nothing() -> None:
    write = op("x", "write", "1", at=(1, 2), index=1, key="k")
    gone = op("x", "write", "", at=(3, 4), index=2, key="k")
    seen = op("y", "read", result="", at=(5, 6), index=2, key="k")
    assert verdict(write, gone, seen) == "ok"
    assert verdict(write, seen) == "violation"


def test_services_and_keys_stand_in_one_history() -> None:
    row = ("a", "1", "passing")
    assert (
        verdict(
            op("x", "register", "a", "1", at=(0, 10), index=1),
            op("x", "write", "1", at=(11, 12), index=2, key="k"),
            op("y", "resolve", result=(row,), at=(13, 14), index=2),
            op("y", "read", result="1", at=(15, 16), index=2, key="k"),
        )
        == "ok"
    )
