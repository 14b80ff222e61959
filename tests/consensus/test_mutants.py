"""The mutants themselves are run by hand; here it is seen to that they still can be."""

import pytest

from .mutants import CORES, MUTANTS, ROOT, Mutant, mutated


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutation_has_one_place_and_is_still_python(mutant: Mutant) -> None:
    source = (ROOT / CORES / mutant.file).read_text()

    compile(mutated(mutant, source), mutant.file, "exec")


def test_no_two_mutants_have_one_name() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
