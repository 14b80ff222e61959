from itertools import count

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from waypost import wire
from waypost.catalog.origins import WRITES_PER_CLIENT
from waypost.catalog.state import Catalog
from waypost.client.writes import Batch, Writes
from waypost.commands import Command, Detach, LogBatch, Origin, Refused


def writes() -> Writes[int]:
    numbers = count(1)
    return Writes(lambda: next(numbers))


def put(into: Writes[int], tokens: int) -> None:
    for token in range(tokens):
        into.put(msgspec.msgpack.encode(token), token)


def test_what_is_put_together_travels_together_in_order() -> None:
    made = writes()
    put(made, 3)

    (batch,) = made.take()

    assert msgspec.msgpack.decode(batch.body) == [0, 1, 2]
    assert batch.tokens == [0, 1, 2]
    assert made.take() == []
    assert made.unanswered == [batch]


def test_a_batch_keeps_its_id_until_it_is_answered() -> None:
    made = writes()
    put(made, 1)
    (first,) = made.take()
    put(made, 1)
    (second,) = made.take()

    assert made.find(first.id) is first
    made.answered(first)

    assert made.find(first.id) is None
    assert made.unanswered == [second]
    assert second.id > first.id


def test_what_is_too_much_for_one_frame_becomes_several() -> None:
    made = writes()
    for token in range(4):
        made.put(b"\xc4" + bytes(300_000), token)

    batches = made.take()

    assert [len(batch.tokens) for batch in batches] == [3, 1]
    assert all(len(batch.body) <= wire.REQUEST_BYTES_MAX for batch in batches)

    put(made, 5000)
    sizes = [len(batch.tokens) for batch in made.take()]
    assert sizes == [wire.COMMANDS_PER_WRITE_MAX, 5000 - wire.COMMANDS_PER_WRITE_MAX]


def test_while_the_window_is_full_what_comes_waits_and_then_travels_together() -> None:
    made = writes()
    for _ in range(WRITES_PER_CLIENT + 5):
        put(made, 1)
        made.take()
    assert len(made) == WRITES_PER_CLIENT

    first, second, *_ = made.unanswered
    made.answered(second)
    assert made.take() == [], "the first may still have to be sent again"
    made.answered(first)
    (batch,) = made.take()

    assert len(batch.tokens) == 5


def test_what_nobody_waits_for_is_not_sent_and_holds_nothing_up() -> None:
    made = writes()
    for _ in range(WRITES_PER_CLIENT + 1):
        put(made, 1)
        made.take()

    made.forget(lambda token: False)

    assert len(made) == 0
    assert made.tokens == []
    put(made, 1)
    assert len(made.take()) == 1


def test_a_batch_is_wanted_as_long_as_any_of_its_commands_is() -> None:
    made = writes()
    put(made, 2)
    (batch,) = made.take()

    made.forget(lambda token: token == 1)

    assert made.unanswered == [batch]


@given(st.data())
def test_a_batch_that_may_be_sent_again_is_never_forgotten_by_the_registry(
    data: st.DataObject,
) -> None:
    """Whatever is lost, repeated or overtaken, each batch is carried out at most once, and in the
    end exactly once: here against the catalog's own memory of writes."""
    made, catalog = writes(), Catalog()
    carried_out: dict[int, int] = {}
    on_its_way: list[Batch[int]] = []

    def carry_out(batch: Batch[int]) -> None:
        commands: list[Command] = [Detach("nobody")] * len(batch.tokens)
        origin = Origin("c", batch.id)
        applied = catalog.apply(catalog.revision + 1, LogBatch(1, [commands], [origin]))
        assert len(applied.outcomes[0]) == len(batch.tokens)
        if not applied.repeated:
            carried_out[batch.id] = carried_out.get(batch.id, 0) + 1
        elif made.find(batch.id) is batch:
            assert {
                outcome.code for outcome in applied.outcomes[0] if isinstance(outcome, Refused)
            } == {"unknown-session"}

    sizes = st.sampled_from([1, 1, 1, 2, 100, 2000, 4096, 5000])
    steps = st.sampled_from(["put", "arrive", "lose", "answer", "again"])
    for step in data.draw(st.lists(steps, max_size=80)):
        if step == "put":
            put(made, data.draw(sizes))
            on_its_way += made.take()
        elif step == "arrive" and on_its_way:
            at = data.draw(st.integers(0, len(on_its_way) - 1))
            carry_out(on_its_way.pop(at))  # and its answer is lost
        elif step == "lose" and on_its_way:
            on_its_way.pop(data.draw(st.integers(0, len(on_its_way) - 1)))
        elif step == "answer" and on_its_way:
            batch = on_its_way.pop(data.draw(st.integers(0, len(on_its_way) - 1)))
            if made.find(batch.id) is batch:
                carry_out(batch)
                made.answered(batch)
                on_its_way += made.take()
        elif step == "again":
            on_its_way += made.unanswered

    while made.unanswered:
        for batch in made.unanswered:
            carry_out(batch)
            made.answered(batch)
        made.take()
    assert set(carried_out.values()) <= {1}
    assert made.tokens == []
