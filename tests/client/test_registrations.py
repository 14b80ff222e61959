import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.client.registrations import Due, Registrations, Wish
from waypost.commands import Deregister, Refused, Register
from waypost.errors import Invalid, Rejected, Superseded
from waypost.model import Instance


def wish(instance_id: str = "o1") -> Wish:
    return Wish(Instance("orders", instance_id, "10.0.0.1", 80), "session", "passing")


def held(incarnation: int = 5) -> tuple[Registrations, Wish]:
    registrations, wanted = Registrations(), wish()
    registrations.add(wanted)
    (due,) = registrations.due()
    registrations.answered(due, incarnation)
    return registrations, wanted


def test_what_is_wanted_is_due_once() -> None:
    registrations = Registrations()
    registrations.add(wish())

    (due,) = registrations.due()

    assert due.command == Register(due.wish.instance, "session", "passing", "")
    assert registrations.due() == []


def test_the_incarnation_that_was_given_is_named_from_then_on() -> None:
    registrations, wanted = held(incarnation=5)

    registrations.alter(wanted, health="warning", why="slow")
    (due,) = registrations.due()

    assert wanted.state == "registered"
    assert isinstance(due.command, Register)
    assert due.command.instance.incarnation == 5
    assert (due.command.health, due.command.why) == ("warning", "slow")


def test_a_change_during_an_answer_is_said_after_it_and_not_beside_it() -> None:
    registrations, wanted = Registrations(), wish()
    registrations.add(wanted)
    (first,) = registrations.due()

    registrations.alter(wanted, health="critical")
    assert registrations.due() == []
    registrations.answered(first, 5)
    (second,) = registrations.due()

    assert isinstance(second.command, Register)
    assert second.command.health == "critical"
    assert second.command.instance.incarnation == 5


def test_a_lost_connection_makes_everything_due_again_with_its_incarnation() -> None:
    registrations, wanted = held(incarnation=5)

    registrations.disconnected()
    (due,) = registrations.due()

    assert isinstance(due.command, Register)
    assert due.command.instance.incarnation == 5
    assert wanted.state == "registered"


def test_an_answer_from_a_connection_that_was_replaced_is_not_counted() -> None:
    registrations = Registrations()
    registrations.add(wish())
    (old,) = registrations.due()
    registrations.disconnected()
    (new,) = registrations.due()

    assert registrations.answered(old, 3) is False
    registrations.failed(old)

    assert registrations.due() == [], "the new command is still under way"
    registrations.answered(new, 4)
    assert new.wish.instance.incarnation == 4


def test_a_superseded_registration_stands_down_and_never_speaks_again() -> None:
    registrations, wanted = held()
    registrations.disconnected()
    (due,) = registrations.due()

    registrations.answered(due, Refused("superseded", "a newer life"))
    registrations.disconnected()

    assert wanted.state == "superseded"
    assert registrations.due() == []
    assert list(registrations) == []
    with pytest.raises(Superseded):
        registrations.alter(wanted, health="passing")
    registrations.leave(wanted)
    assert registrations.due() == []


def test_a_session_that_is_gone_is_attached_again_and_the_registration_with_it() -> None:
    registrations, wanted = held()
    registrations.alter(wanted, health="warning")
    (due,) = registrations.due()

    must_attach = registrations.answered(due, Refused("unknown-session", "it ended"))

    assert must_attach
    assert len(registrations.due()) == 1


def test_any_other_refusal_ends_the_registration_with_its_reason() -> None:
    registrations, wanted = Registrations(), wish()
    registrations.add(wanted)
    (due,) = registrations.due()

    registrations.answered(due, Refused("rejected", "the service is full"))

    assert wanted.state == "refused"
    assert isinstance(wanted.error, Rejected)


def test_leaving_deregisters_that_life_and_no_other() -> None:
    registrations, wanted = held(incarnation=5)

    registrations.leave(wanted)
    (due,) = registrations.due()
    registrations.answered(due, 0)

    assert due.command == Deregister("orders", "o1", 5)
    assert wanted.state == "left"
    assert list(registrations) == []


@pytest.mark.parametrize("code", ["unknown-service", "unknown-instance", "superseded"])
def test_leaving_what_is_gone_already_is_no_error(code: str) -> None:
    registrations, wanted = held()
    registrations.leave(wanted)
    (due,) = registrations.due()

    registrations.answered(due, Refused(code, "gone"))

    assert wanted.state == "left"
    assert wanted.error is None


def test_leaving_while_disconnected_is_said_on_the_next_connection() -> None:
    registrations, wanted = held(incarnation=5)
    registrations.disconnected()

    registrations.leave(wanted)

    assert [due.command for due in registrations.due()] == [Deregister("orders", "o1", 5)]


def test_leaving_before_anything_was_said_says_nothing() -> None:
    registrations, wanted = Registrations(), wish()
    registrations.add(wanted)

    registrations.leave(wanted)

    assert wanted.state == "left"
    assert registrations.due() == []


def test_the_same_id_is_not_registered_twice_by_one_client() -> None:
    registrations, _ = held()

    with pytest.raises(Invalid, match="already"):
        registrations.add(wish())


def test_what_has_left_cannot_be_altered() -> None:
    registrations, wanted = held()
    registrations.leave(wanted)

    with pytest.raises(Rejected, match="deregistered"):
        registrations.alter(wanted, health="warning")


@given(st.data())
def test_whatever_goes_wrong_the_registry_ends_up_with_what_is_wanted(data: st.DataObject) -> None:
    """Commands are lost before or after they took effect, and connections break."""
    registrations, wanted = Registrations(), wish()
    registrations.add(wanted)
    entry: Register | None = None
    serial = 0
    under_way: list[Due] = []

    def carry_out(due: Due) -> int:
        nonlocal entry, serial
        if isinstance(due.command, Register):
            incarnation = due.command.instance.incarnation
            if not incarnation:
                serial += 1
                incarnation = serial
            entry = due.command
            return incarnation
        entry = None
        return 0

    steps = st.sampled_from(["alter", "send", "answer", "lose", "fail", "disconnect", "leave"])
    for step in data.draw(st.lists(steps, max_size=30)):
        if step == "alter" and wanted.state in ("pending", "registered"):
            health = data.draw(st.sampled_from(["passing", "warning", "critical"]))
            registrations.alter(wanted, health=health)
        elif step == "send":
            under_way += registrations.due()
        elif step == "answer" and under_way:
            due = under_way.pop(0)
            registrations.answered(due, carry_out(due))
        elif step == "lose" and under_way:
            carry_out(under_way[0])  # it took effect, and nobody hears of it
            registrations.failed(under_way.pop(0))
        elif step == "fail" and under_way:
            registrations.failed(under_way.pop(0))
        elif step == "disconnect":
            under_way.clear()
            registrations.disconnected()
        elif step == "leave":
            registrations.leave(wanted)

    for _ in range(5):
        under_way += registrations.due()
        while under_way:
            due = under_way.pop(0)
            registrations.answered(due, carry_out(due))

    if wanted.state == "left":
        assert entry is None
    else:
        assert wanted.state == "registered"
        assert entry is not None
        assert entry.health == wanted.health
    assert registrations.due() == []
