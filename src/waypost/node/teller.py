"""Logs who leads, for whoever wants to know why nobody was answered for a moment."""

import logging

from waypost.replica.member import MemberStatus

log = logging.getLogger("waypost.engine")


def tell_of(before: MemberStatus, now: MemberStatus, *, all_write: bool) -> None:
    """Log what changed; ``all_write``: nobody leads, and nobody has to."""
    if (before.leader, before.epoch.number) != (now.leader, now.epoch.number):
        told, leader = log.info, now.epoch.members.get(now.leader)
        who = f"{leader.name} leads" if leader else "nobody leads"
        who = "all write" if all_write else who
    elif before.role != now.role:
        told, who = log.debug, now.role
    else:
        return
    epoch = now.epoch
    told("epoch %d (%s), round %d: %s", epoch.number, epoch.engine, now.ballot.round, who)
