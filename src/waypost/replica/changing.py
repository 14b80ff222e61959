"""When an epoch may be ended: what is asked of the next one before its Seal is proposed.

A Seal whose members can never form a majority would stop the log for good, so whoever is named
must be there and almost have caught up.  A member of the present epoch may be down (it is perhaps
what is being replaced), as long as a majority of the next one is up.
"""

from collections.abc import Mapping, Set

from waypost.consensus.core import Index, Nid, Ns
from waypost.consensus.epoch import Epoch, Peer
from waypost.errors import Invalid, Unavailable
from waypost.replica.feeding import Asker
from waypost.replica.known import Known

WINDOW_ENTRIES = 1024
"""A new member may lag by so much: it fetches that while the Seal commits."""
ALONE = "local"
MEMBERS_MAX = 9


class Living:
    """Who was heard lately."""

    __slots__ = ("_for", "_heard")

    def __init__(self, living_for: Ns) -> None:
        self._for = living_for
        self._heard: dict[Nid, Ns] = {}  # when each other node last said anything

    def heard(self, now: Ns, nid: Nid) -> None:
        """A node says something."""
        self._heard[nid] = now

    def at(self, now: Ns) -> Set[Nid]:
        """Those who were heard no longer ago than what counts as living."""
        return {nid for nid, heard in self._heard.items() if now - heard <= self._for}


def check_names(epoch: Epoch, engine: str, members: Mapping[Nid, Peer], first_leader: Nid) -> None:
    """Raise ``Invalid`` for an epoch that could never be."""
    if not members or 0 in members or len(members) > MEMBERS_MAX:
        raise Invalid(
            f"members: {sorted(members)}: name 1 to {MEMBERS_MAX} nodes, none of them 0",
            field="members",
        )
    if engine == ALONE and len(members) > 1:
        raise Invalid(
            f"engine: {engine!r} is for one node, not for {len(members)}: choose raft or paxos",
            field="engine",
        )
    if first_leader and first_leader not in members:
        raise Invalid(
            f"first leader: node {first_leader} is not among the members {sorted(members)}",
            field="first leader",
        )
    if (engine, members) == (epoch.engine, epoch.members):
        raise Invalid(f"members: epoch {epoch.number} is just that: nothing to change")


def check_moment(known: Known, *, is_sealing: bool) -> None:
    """Raise ``Unavailable`` while the last change is not over."""
    if is_sealing:
        raise Unavailable("members: another change is under way: retry in a moment")
    if not known.is_released:
        raise Unavailable(
            f"members: epoch {known.number} has only begun, a majority does not hold it yet: "
            "retry in a moment"
        )


def check_readiness(
    epoch: Epoch,
    members: Mapping[Nid, Peer],
    me: Nid,
    last: Index,
    matches: Mapping[Nid, Index],
    askers: Mapping[Nid, Asker],
    living: Set[Nid],
) -> None:
    """Raise ``Unavailable`` when a named node is not there, or too far behind.

    What a node held when it was last heard says nothing of whether it will vote.
    """
    floor = last - WINDOW_ENTRIES
    ready = 0
    for nid, peer in members.items():
        shown = f"{peer.name or 'node'} ({nid:#010x})"
        if nid == me:
            ready += 1
        elif nid in epoch.members:
            # Who confirmed nothing yet has not been heard in this ballot, or cannot vote: its disk
            # may have forgotten a promise.
            ready += nid in living and matches.get(nid, 0) >= max(floor, min(last, 1))
        elif (
            (asker := askers.get(nid)) is None
            or nid not in living
            or asker.number < epoch.number  # asked before this epoch: it may have voted since
        ):
            raise Unavailable(
                f"members: {shown} does not follow the log yet: start it and let it catch up"
            )
        elif asker.has_voted:
            raise Invalid(
                f"members: {shown} was a member before, or its damaged disk cannot tell: start it "
                "with an empty data directory, so that it joins under a number of its own",
                field="members",
            )
        elif asker.commit < floor:
            raise Unavailable(
                f"members: {shown} holds the log up to {asker.commit} of {last}: wait for it"
            )
        else:
            ready += 1
    if 2 * ready <= len(members):
        raise Unavailable(
            f"members: only {ready} of the {len(members)} named are up and have caught up: a "
            "majority must be, or nothing would ever commit"
        )
