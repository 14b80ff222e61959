"""Two in a row, and the shares of nodes."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from waypost.checks import SEVERITIES, Check, CheckStatus
from waypost.node.checks.judging import judge
from waypost.node.checks.shares import owner_of, seed_of

STATUSES: st.SearchStrategy[CheckStatus] = st.sampled_from(["passing", "warning", "critical"])


def follow(check: Check, known: CheckStatus, found: list[CheckStatus]) -> list[CheckStatus]:
    streak, said = 0, []
    for each in found:
        changes, streak = judge(check, known, each, streak)
        if changes:
            known, streak = each, 0
        said.append(known)
    return said


def test_two_bad_probes_in_a_row_are_needed_and_two_good_ones() -> None:
    down = follow(Check("c"), "passing", ["critical", "passing", "critical", "critical"])
    assert down == ["passing", "passing", "passing", "critical"]
    up = follow(Check("c"), "critical", ["passing", "critical", "passing", "passing"])
    assert up == ["critical", "critical", "critical", "passing"]


def test_bad_probes_of_different_kinds_count_together_and_the_last_one_decides() -> None:
    assert follow(Check("c"), "passing", ["warning", "critical"])[-1] == "critical"
    assert follow(Check("c"), "passing", ["critical", "warning"])[-1] == "warning"


@given(st.lists(STATUSES, max_size=40), STATUSES, st.integers(1, 4), st.integers(1, 4))
def test_a_status_changes_only_after_so_many_in_one_direction(
    found: list[CheckStatus], known: CheckStatus, up: int, down: int
) -> None:
    said = follow(Check("c", up_after=up, down_after=down), known, found)

    before = known
    for at, now in enumerate(said):
        if now != before:
            is_down = SEVERITIES[now] > SEVERITIES[before]
            last = found[max(0, at + 1 - (down if is_down else up)) : at + 1]
            assert len(last) == (down if is_down else up)
            assert all((SEVERITIES[each] > SEVERITIES[before]) is is_down for each in last)
            assert all(each != before for each in last)
        before = now
    longest = max(up, down)
    for at in range(longest - 1, len(said)):  # and it does change then
        if len(set(found[at + 1 - longest : at + 1])) == 1:
            assert said[at] == found[at]


def test_members_share_evenly_and_only_the_checks_of_the_lost_one_move() -> None:
    seeds = [seed_of("orders", f"i-{number}", "", "http") for number in range(9_000)]
    before = [owner_of(seed, ["a", "b", "c"]) for seed in seeds]
    after = [owner_of(seed, ["c", "a"]) for seed in seeds]

    assert all(2_700 < count < 3_300 for count in Counter(before).values())
    moved = [b for a, b in zip(before, after, strict=True) if a == "b"]
    assert all(1_200 < count < 1_800 for count in Counter(moved).values())
    assert all(a == b for a, b in zip(before, after, strict=True) if a != "b")
    assert owner_of(1, []) == ""
