"""A change of epochs with a fault at every step, and with two at many: see ``every_fault``."""

from collections.abc import Sequence

import pytest
from tests.replica.every_fault import CHANGES, FAULTS, STEPS, pairs, tell

from waypost.consensus.core import Nid

ONE_IN = 251
"""Of the pairs; prime, so that no kind of fault and no step is left out by the stride."""


@pytest.mark.parametrize(("old", "new", "named"), CHANGES[:3])
def test_one_fault_at_any_step_of_a_change_breaks_nothing(
    old: str, new: str, named: Sequence[Nid]
) -> None:
    for step in range(STEPS):
        for fault in FAULTS:
            tell({step: fault}, old, new, named)


@pytest.mark.parametrize(("old", "new", "named"), CHANGES)
def test_two_faults_at_two_steps_of_a_change_break_nothing(
    old: str, new: str, named: Sequence[Nid]
) -> None:
    for faults in pairs(0, ONE_IN):
        tell(faults, old, new, named)


def test_the_sample_of_pairs_has_every_fault_at_every_step() -> None:
    tried = {each for faults in pairs(0, ONE_IN) for each in faults.items()}

    assert {step for step, _ in tried} == set(range(STEPS))
    assert {fault for _, fault in tried} == set(FAULTS)
