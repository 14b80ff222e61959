"""Why the log, or the catalog, did not take something, in words for whoever asked."""

import msgspec

from waypost.commands import Outcome, Refused
from waypost.errors import (
    ERRORS_BY_CODE,
    CorruptData,
    ReadOnly,
    Rejected,
    TimedOut,
    Unavailable,
    WaypostError,
)


def refusal(failure: BaseException | None, *, is_writable: bool, is_in_doubt: bool) -> WaypostError:
    """The error for a change, or a read, that the log gave back."""
    if failure is not None:
        return TimedOut(
            f"this node stopped ({failure}); the change may or may not survive: "
            "ask again after the restart"
        )
    if is_in_doubt:
        return TimedOut("the change may still be applied: ask for the state before retrying")
    if not is_writable:
        return ReadOnly(
            "the node's disk is full: reads go on, writes wait for space; free some on the "
            "file system of its data directory"
        )
    return Unavailable("the log takes no more right now: retry in a moment")


def unapplied(applied: int, error: Exception) -> WaypostError:
    """Why a node that has applied so much cannot go on: the next entry is beyond it."""
    if isinstance(error, msgspec.MsgspecError):
        return CorruptData(
            f"entry {applied + 1} of the log cannot be read ({error}): a newer version wrote it; "
            "upgrade this node, and it goes on from there"
        )
    return CorruptData(
        f"entry {applied + 1} of the log could not be applied ({error!r}): this is a bug; keep the "
        "data directory, and report it with this line"
    )


def raised(outcome: Outcome) -> int:
    """What a command yields; a refusal is raised as the error that it stands for."""
    if isinstance(outcome, Refused):
        raise ERRORS_BY_CODE.get(outcome.code, Rejected)(outcome.message)
    assert isinstance(outcome, int), "only a transaction yields bytes"
    return outcome
