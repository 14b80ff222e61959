"""The contract's own values."""

from waypost.consensus import NO_SNAP, Boot, Core, Hard
from waypost.consensus.solo import SoloCore


def test_an_empty_disk_boots_as_nothing_promised_and_nothing_known() -> None:
    boot = Boot()

    assert (boot.hard, boot.snap, boot.entries, boot.faulty) == (Hard(), NO_SNAP, (), ())
    assert not boot.suspect


def test_suspicion_is_part_of_what_a_node_must_not_forget() -> None:
    assert Boot(Hard(suspect=True)).suspect


def test_a_core_of_one_is_a_core() -> None:
    core: Core = SoloCore(1, Boot())

    assert core.status.role == "leader"
