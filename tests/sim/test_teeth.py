"""Cores with one rule broken: what finds nothing in them would find nothing in ours."""

from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import structs

from waypost.catalog.draft import Store
from waypost.catalog.keys import Pair
from waypost.catalog.keyspace import Keyspace, Miss
from waypost.cli import exits, main, simulate
from waypost.commands import PutKey
from waypost.consensus.core import Token
from waypost.consensus.entry import Index, Nid
from waypost.consensus.follower import Follower
from waypost.consensus.leader import Leader
from waypost.consensus.messages import Prepare
from waypost.consensus.raft import RaftCore
from waypost.consensus.site import Site
from waypost.model import Revision
from waypost.replica.handover import Handover
from waypost.sim.plan import Engine, draw_plan
from waypost.sim.report import picture, story
from waypost.sim.run import run_seed
from waypost.sim.shrink import shrink

SEEDS_MAX = 60
Break = Callable[[pytest.MonkeyPatch], None]


def ack_before_durable(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Follower, "match", property(lambda self: self.verified))


def one_vote_too_few(patch: pytest.MonkeyPatch) -> None:
    init = Site.__init__

    def wrong(self: Site, *args: object, **kwargs: object) -> None:
        init(self, *args, **kwargs)  # type: ignore[arg-type]
        self.quorum = max(1, self.quorum - 1)

    patch.setattr(Site, "__init__", wrong)


def vote_for_any_log(patch: pytest.MonkeyPatch) -> None:
    def wrong(self: RaftCore, candidate: Prepare) -> bool:
        return True

    patch.setattr(RaftCore, "_is_up_to_date", wrong)


def read_without_a_round(patch: pytest.MonkeyPatch) -> None:
    def wrong(self: Leader, asker: Nid, token: Token) -> None:
        self._answer(asker, token, ok=True, index=self._site.commit)

    patch.setattr(Leader, "read", wrong)


def start_an_epoch_without_its_tail(patch: pytest.MonkeyPatch) -> None:
    start = Handover._try_start

    def wrong(self: Handover) -> bool:
        held = self.held
        assert held is not None
        held.holds_up_to = lambda epoch: True  # type: ignore[method-assign]
        return start(self)

    patch.setattr(Handover, "_try_start", wrong)


def compare_with_nothing(patch: pytest.MonkeyPatch) -> None:
    put = Keyspace._put

    def wrong(
        self: Keyspace, store: Store, command: PutKey, revision: Revision, now_ms: int
    ) -> Pair | Miss:
        return put(self, store, structs.replace(command, cas=-1), revision, now_ms)

    patch.setattr(Keyspace, "_put", wrong)


BROKEN: dict[Break, tuple[Engine, tuple[str, ...]]] = {
    ack_before_durable: ("raft", ("G1",)),
    one_vote_too_few: ("paxos", ("quorum",)),
    vote_for_any_log: ("raft", ("election", "safety", "immutable")),
    read_without_a_round: ("raft", ("I8",)),
    start_an_epoch_without_its_tail: ("raft", ("I6", "raised AssertionError")),
    compare_with_nothing: ("raft", ("linearizable",)),
}


def first_failure(engine: Engine) -> tuple[int, str]:
    for seed in range(SEEDS_MAX):
        failure = run_seed(seed, engine).failure
        if failure is not None:
            return seed, failure.invariant
    raise AssertionError(f"{SEEDS_MAX} seeds found nothing")


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_rule_is_found(broken: Break, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, invariants = BROKEN[broken]
    broken(monkeypatch)
    _, invariant = first_failure(engine)
    assert invariant in invariants


def test_a_failing_plan_becomes_small_and_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    vote_for_any_log(monkeypatch)
    seed, invariant = first_failure("raft")
    plan = draw_plan(seed, "raft")
    small, outcome = shrink(plan, invariant, tries=60)
    assert len(small.faults) + len(small.tasks) < (len(plan.faults) + len(plan.tasks)) / 2
    assert outcome.failure is not None
    assert outcome.failure.invariant == invariant
    assert invariant in story(small, outcome)
    page = picture(small, outcome)
    assert page.startswith("<!doctype html>")
    assert "src=" not in page
    assert "href=" not in page


def test_the_command_tells_of_a_failing_seed_and_draws_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ack_before_durable(monkeypatch)
    command = ["simulate", "--seeds", "2", "--out", str(tmp_path)]
    assert main.commands.main(command, standalone_mode=False) == exits.NOT_AS_WANTED
    printed = capsys.readouterr()
    assert printed.out.count("\n") == 1
    assert '"failed":[0,1]' in printed.out
    assert "G1" in printed.err
    assert (tmp_path / "waypost-raft-0.html").exists()


def test_the_command_is_silent_about_what_holds(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["simulate", "--engine", "paxos", "--seeds", "2", "--first-seed", "40"]
    assert main.commands.main(command, standalone_mode=False) == exits.OK
    printed = capsys.readouterr()
    assert '"failed":[]' in printed.out
    assert printed.err == ""


def test_one_seed_is_told_message_by_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate.simulate.main(["--seed", "3", "--trace"], standalone_mode=False) == exits.OK
    assert "Append(" in capsys.readouterr().out


def test_a_run_ends_at_the_same_index_however_often() -> None:
    ends: set[Index] = {run_seed(5, "raft").marks["entries committed"] for _ in range(2)}
    assert len(ends) == 1
