"""Under load, lists go first and deregistrations last."""

import pytest

from waypost.errors import Overloaded
from waypost.node.admission import Admission, Kind

ORDER: list[Kind] = ["list", "watch", "register", "deregister"]


def test_everything_is_admitted_while_little_waits() -> None:
    for kind in ORDER:
        Admission(100, 1000).admit(kind, 10, 100)


@pytest.mark.parametrize("waiting", range(0, 120, 5))
def test_what_is_admitted_at_some_load_comes_before_what_is_not(waiting: int) -> None:
    admission = Admission(100, 10**9)

    admitted = [_is_admitted(admission, kind, waiting) for kind in ORDER]

    assert admitted == sorted(admitted)


def test_bytes_count_as_well_as_commands() -> None:
    with pytest.raises(Overloaded, match="KiB"):
        Admission(100, 1000).admit("deregister", 1, 1000)


def _is_admitted(admission: Admission, kind: Kind, waiting: int) -> bool:
    try:
        admission.admit(kind, waiting, 0)
    except Overloaded:
        return False
    return True
