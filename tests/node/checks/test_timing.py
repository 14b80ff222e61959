"""The schedule of one check, on virtual time: the shipped rules, with every delay drawn."""

from hypothesis import given
from hypothesis import strategies as st

from waypost.checks import Check, CheckState
from waypost.node.checks.timing import needs_second, next_s, second_s

INTERVALS = st.integers(1_000, 120_000)
DRAWN = st.floats(0, 1, exclude_max=True)


def state_of(check: Check, status: str = "passing", output: str = "fine") -> CheckState:
    return CheckState("orders", "o-1", "", check, status, output, 1, 1)  # type: ignore[arg-type]


@given(INTERVALS, DRAWN, st.floats(0, 1))
def test_two_probes_with_their_whole_timeouts_end_within_the_interval_and_one_timeout(
    interval_ms: int, drawn: float, share: float
) -> None:
    """A target hangs at the worst moment: just after a probe found it well."""
    check = Check("c", kind="http", interval_ms=interval_ms, timeout_ms=1 + int(share * 30_000))
    interval_s, timeout_s = interval_ms / 1000, check.probe_timeout_ms / 1000
    first_s = next_s(check, drawn)
    second_ends_s = first_s + second_s(check) + timeout_s
    assert first_s + timeout_s < second_ends_s < interval_s + timeout_s
    assert first_s > 0.88 * interval_s, "probes cost little more than one an interval"


@given(INTERVALS, DRAWN)
def test_a_refusal_is_known_within_the_interval(interval_ms: int, drawn: float) -> None:
    check = Check("c", kind="tcp", interval_ms=interval_ms)
    assert next_s(check, drawn) + second_s(check) < interval_ms / 1000


def test_a_second_probe_is_for_what_was_well_and_needs_two_to_be_otherwise() -> None:
    check = Check("c", kind="http")
    assert needs_second(state_of(check), 0)
    assert needs_second(state_of(check, "warning"), 1)
    assert not needs_second(state_of(check), -1), "one more is enough"
    assert not needs_second(state_of(check, "critical"), 0)
    assert not needs_second(state_of(check, output=""), 0), "the first finding counts at once"
    assert not needs_second(state_of(Check("c", kind="http", down_after=1)), 0)
