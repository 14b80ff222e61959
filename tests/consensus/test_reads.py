"""Rounds, questions and freshness."""

from waypost.consensus.reads import Freshness, Questions, Rounds


def test_a_read_is_not_confirmed_by_the_round_under_way_when_it_came() -> None:
    rounds = Rounds()
    rounds.begin(10, 0)
    rounds.read(0, 7, 3)

    rounds.confirm(1)
    assert rounds.take(0, 3) == []
    assert rounds.is_wanted

    rounds.begin(20, 3)
    rounds.confirm(2)
    assert rounds.take(0, 3) == [(0, 7, 3)]
    assert rounds.confirmed_at == 20


def test_a_read_sees_the_barrier_and_waits_until_it_is_committed() -> None:
    rounds = Rounds()
    rounds.read(0, 7, 3)
    rounds.begin(10, 3)
    rounds.confirm(1)

    assert rounds.take(5, 4) == []
    assert rounds.take(5, 5) == [(0, 7, 5)]


def test_only_the_question_under_way_is_answered() -> None:
    questions = Questions(100)
    questions.read(1)
    first = questions.next(50)
    questions.read(2)
    assert questions.next(50) == 0, "one question at a time"

    assert questions.answered(first - 1) == []
    assert questions.answered(first) == [1]
    assert questions.answered(first) == []
    second = questions.next(60)
    assert second == first + 1
    assert questions.answered(first) == []
    assert questions.give_up() == [2]


def test_freshness_is_granted_when_what_it_speaks_of_is_applied() -> None:
    freshness = Freshness()

    freshness.offer(100, commit=5, applied=3)
    freshness.offer(200, commit=9, applied=3)
    assert freshness.at == 0

    freshness.applied(5)
    assert freshness.at == 100, "the newer one would have waited for ever under load"
    freshness.offer(300, commit=5, applied=5)
    assert freshness.at == 300
    freshness.offer(250, commit=5, applied=5)
    assert freshness.at == 300
