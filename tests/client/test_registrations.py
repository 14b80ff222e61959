import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.catalog.state import Catalog
from waypost.client.registrations import Due, Registrations, Wish
from waypost.commands import (
    Attach,
    Command,
    Deregister,
    Detach,
    LogBatch,
    Origin,
    Outcome,
    Refused,
    Register,
)
from waypost.errors import Invalid, Rejected, Superseded
from waypost.model import Instance


def wish(instance_id: str = "o1") -> Wish:
    return Wish(Instance("orders", instance_id, "10.0.0.1", 80), "session", "passing")


def held(incarnation: int = 5) -> tuple[Registrations, Wish]:
    registrations, wanted = Registrations(), wish()
    registrations.add(wanted)
    (due,) = registrations.due()
    registrations.answered(due, incarnation, 1)
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
    registrations.answered(first, 5, 1)
    (second,) = registrations.due()

    assert isinstance(second.command, Register)
    assert second.command.health == "critical"
    assert second.command.instance.incarnation == 5


HERE = {("orders", "o1"): 5}


@pytest.mark.parametrize("holds", [None, {}, {("orders", "o1"): 4}, {("orders", "o2"): 5}])
def test_what_the_session_does_not_hold_any_more_is_due_again_with_its_incarnation(
    holds: dict[tuple[str, str], int] | None,
) -> None:
    registrations, wanted = held(incarnation=5)

    registrations.attached(9, holds)
    (due,) = registrations.due()

    assert isinstance(due.command, Register)
    assert due.command.instance.incarnation == 5
    assert wanted.state == "registered"


def test_what_the_session_holds_is_not_due_again() -> None:
    registrations, _ = held(incarnation=5)

    registrations.attached(9, HERE)

    assert registrations.due() == []


def test_a_permanent_instance_is_due_again_only_when_the_registry_has_lost_its_data() -> None:
    registrations = Registrations()
    registrations.add(Wish(Instance("orders", "o1", "10.0.0.1", 80), "", "passing"))
    (due,) = registrations.due()
    registrations.answered(due, 5, 1)

    registrations.attached(9, {})
    assert registrations.due() == []
    registrations.forgotten()
    assert len(registrations.due()) == 1


def test_what_is_under_way_when_the_session_is_attached_stays_under_way() -> None:
    registrations = Registrations()
    registrations.add(wish())
    (due,) = registrations.due()

    registrations.attached(9, {})

    assert registrations.due() == []
    registrations.answered(due, 5, 10)
    assert due.wish.state == "registered"
    assert registrations.due() == []


def test_an_answer_from_before_the_session_was_attached_gives_way_to_what_it_held_then() -> None:
    registrations = Registrations()
    registrations.add(wish())
    (due,) = registrations.due()

    registrations.attached(9, {})
    registrations.answered(due, 5, 8)

    assert due.wish.state == "pending"
    (again,) = registrations.due()
    assert isinstance(again.command, Register)
    assert again.command.instance.incarnation == 5


def test_an_answer_from_before_counts_if_the_session_holds_what_it_gave() -> None:
    registrations = Registrations()
    registrations.add(wish())
    (due,) = registrations.due()

    registrations.attached(9, HERE)
    registrations.answered(due, 5, 8)

    assert due.wish.state == "registered"
    assert registrations.due() == []


def test_a_write_that_the_registry_forgot_is_due_again_as_another() -> None:
    registrations, wanted = held()
    registrations.alter(wanted, health="warning")
    (due,) = registrations.due()

    assert registrations.answered(due, Refused("too-old", "who knows"), 9) is False

    assert wanted.state == "registered"
    assert len(registrations.due()) == 1


def test_the_answer_to_what_was_given_up_is_not_counted() -> None:
    registrations = Registrations()
    registrations.add(wish())
    (old,) = registrations.due()
    registrations.failed(old)
    (new,) = registrations.due()

    assert registrations.answered(old, 3, 1) is False
    registrations.failed(old)

    assert registrations.due() == [], "the new command is still under way"
    registrations.answered(new, 4, 2)
    assert new.wish.instance.incarnation == 4


def test_a_superseded_registration_stands_down_and_never_speaks_again() -> None:
    registrations, wanted = held()
    registrations.attached(9, {})
    (due,) = registrations.due()

    registrations.answered(due, Refused("superseded", "a newer life"), 10)
    registrations.attached(11, {})

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

    must_attach = registrations.answered(due, Refused("unknown-session", "it ended"), 2)

    assert must_attach
    assert len(registrations.due()) == 1


def test_any_other_refusal_ends_the_registration_with_its_reason() -> None:
    registrations, wanted = Registrations(), wish()
    registrations.add(wanted)
    (due,) = registrations.due()

    registrations.answered(due, Refused("rejected", "the service is full"), 1)

    assert wanted.state == "refused"
    assert isinstance(wanted.error, Rejected)


def test_leaving_deregisters_that_life_and_no_other() -> None:
    registrations, wanted = held(incarnation=5)

    registrations.leave(wanted)
    (due,) = registrations.due()
    registrations.answered(due, 0, 2)

    assert due.command == Deregister("orders", "o1", 5)
    assert wanted.state == "left"
    assert list(registrations) == []


@pytest.mark.parametrize("code", ["unknown-service", "unknown-instance", "superseded"])
def test_leaving_what_is_gone_already_is_no_error(code: str) -> None:
    registrations, wanted = held()
    registrations.leave(wanted)
    (due,) = registrations.due()

    registrations.answered(due, Refused(code, "gone"), 2)

    assert wanted.state == "left"
    assert wanted.error is None


def test_leaving_while_disconnected_is_said_on_the_next_connection() -> None:
    registrations, wanted = held(incarnation=5)
    registrations.attached(9, {})

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
    """Answers are lost, sessions end, and what is under way is said again until it is answered."""
    registrations, wanted = Registrations(), wish()
    registrations.add(wanted)
    catalog = Catalog()
    under_way: list[tuple[int, Due]] = []
    made = 0

    def apply(command: Command, origin: Origin | None = None) -> tuple[int, Outcome]:
        index = catalog.revision + 1
        applied = catalog.apply(index, LogBatch(index, [[command]], [origin] if origin else []))
        return applied.repeated.get(0, index), applied.outcomes[0][0]

    def attach() -> None:
        revision, _ = apply(Attach("session", "n1", 10_000, 2_000))
        session = catalog.session("session")
        assert session is not None
        holds = [record.instance for record in catalog.held(session)]
        registrations.attached(revision, {(one.service, one.id): one.incarnation for one in holds})

    def send() -> None:
        nonlocal made
        for due in registrations.due():
            made += 1
            under_way.append((made, due))

    def carry_out(number: int, due: Due) -> tuple[int, Outcome]:
        return apply(due.command, Origin("client", number))

    def answer(number: int, due: Due) -> None:
        revision, outcome = carry_out(number, due)
        if registrations.answered(due, outcome, revision):
            attach()

    attach()
    steps = st.sampled_from(["alter", "send", "answer", "lose", "expire", "attach", "leave"])
    for step in data.draw(st.lists(steps, max_size=40)):
        if step == "alter" and wanted.state in ("pending", "registered"):
            health = data.draw(st.sampled_from(["passing", "warning", "critical"]))
            registrations.alter(wanted, health=health)
        elif step == "send":
            send()
        elif step == "answer" and under_way:
            answer(*under_way.pop(0))
        elif step == "lose" and under_way:
            carry_out(*under_way[0])  # it took effect, and nobody hears of it
        elif step == "expire":
            apply(Detach("session"))
        elif step == "attach":
            attach()
        elif step == "leave":
            registrations.leave(wanted)

    attach()
    for _ in range(5):
        send()
        while under_way:
            answer(*under_way.pop(0))

    records = catalog.service("orders") or {}
    if wanted.state == "left":
        assert not records
    else:
        assert wanted.state == "registered"
        assert records["o1"].health == wanted.health
        assert records["o1"].instance == wanted.instance
    assert registrations.due() == []
