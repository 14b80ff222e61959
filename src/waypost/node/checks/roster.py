"""All checks that there are, as this node knows them, and what moved since it last looked.

The catalog's values are immutable: what is the same object has not changed, and is passed over at
the cost of one comparison for each instance.
"""

import asyncio

import msgspec

from waypost.catalog.checks import Checks, Held, States
from waypost.checks import CheckKey, CheckState
from waypost.node.checks.shares import seed_of

_Owner = tuple[str, str, str]


class Entry:
    """One check, and what this node has to do about it."""

    __slots__ = (
        "begun_s",
        "due_s",
        "is_late",
        "is_mine",
        "is_proposing",
        "is_slow",
        "is_waiting",
        "key",
        "probes",
        "reap",
        "second",
        "seed",
        "state",
        "streak",
        "timer",
    )

    def __init__(self, key: CheckKey, state: CheckState) -> None:
        self.key = key
        self.state = state
        self.seed = seed_of(*key)
        self.is_late = False
        self.is_mine = False
        self.is_proposing = False
        self.is_slow = False
        self.is_waiting = False
        """For a slot to be probed in."""
        self.probes: set[asyncio.Task[None]] = set()
        """Under way: two while the first has not answered in time."""
        self.begun_s = 0.0
        """When the first of them was."""
        self.streak = 0
        self.due_s = 0.0
        self.timer: asyncio.TimerHandle | None = None
        self.second: asyncio.TimerHandle | None = None
        self.reap: asyncio.TimerHandle | None = None

    def let_be(self) -> None:
        """What is still asked would be no news."""
        for probe in self.probes:
            probe.cancel()


class Moved(msgspec.Struct, frozen=True):
    """What one look found."""

    gone: list[Entry]
    other: list[Entry]
    """New ones, and those whose definition is another."""
    found: list[Entry]
    """Those of which only status or output changed."""


class Roster:
    """Every check, by its key."""

    def __init__(self) -> None:
        self.entries: dict[CheckKey, Entry] = {}
        self._seen: dict[tuple[str, str] | str, Held | States] = {}
        self._of: dict[_Owner, dict[str, Entry]] = {}

    def look(self, checks: Checks) -> Moved:
        """Tell what moved since the last look."""
        moved = Moved([], [], [])
        seen = self._seen
        for key, held in checks.instances.items():
            if seen.get(key) is not held:
                seen[key] = held
                self._take((*key, ""), held.checks, moved)
        for node, states in checks.nodes.items():
            if seen.get(node) is not states:
                seen[node] = states
                self._take(("", "", node), states, moved)
        if len(seen) > len(checks.instances) + len(checks.nodes):
            gone = [k for k in seen if k not in checks.instances and k not in checks.nodes]
            for each in gone:
                del seen[each]
                owner = ("", "", each) if isinstance(each, str) else (*each, "")
                self._take(owner, (), moved)
        return moved

    def _take(self, owner: _Owner, states: States, moved: Moved) -> None:
        known = self._of.get(owner, {})
        now = {state.check.id: state for state in states}
        for check_id in [each for each in known if each not in now]:
            gone = known.pop(check_id)
            moved.gone.append(gone)
            del self.entries[gone.key]
        for check_id, state in now.items():
            entry = known.get(check_id)
            if entry is None:
                entry = known[check_id] = Entry((*owner, check_id), state)
                self.entries[entry.key] = entry
                moved.other.append(entry)
            elif entry.state is not state:
                is_other = entry.state.check != state.check
                entry.state = state
                (moved.other if is_other else moved.found).append(entry)
        if known:
            self._of[owner] = known
        else:
            self._of.pop(owner, None)
