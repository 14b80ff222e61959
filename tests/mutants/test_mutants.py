"""The mutants themselves take minutes (``make mutants``); here, that each still has its place."""

from pathlib import Path

import pytest

from .__main__ import run
from .catalogue import MUTANTS, Mutant
from .patching import mutated

SOURCES = Path(__file__).parents[2] / "src"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_has_one_place_and_is_still_python(mutant: Mutant) -> None:
    path = (SOURCES / mutant.module.replace(".", "/")).with_suffix(".py")

    compile(mutated(path.read_text(), mutant), str(path), "exec")


def test_no_two_mutants_have_one_name() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) > 50


def test_a_named_test_runs_the_changed_code() -> None:
    said = run("a-match-goes-back", "tests/consensus/test_progress.py")

    assert said == "tests: tests/consensus/test_progress.py"


def test_a_killer_that_never_imports_what_was_changed_proves_nothing() -> None:
    with pytest.raises(LookupError, match="did not run as changed"):
        run("a-match-goes-back", "tests/consensus/test_quorum.py")
