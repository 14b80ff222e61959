"""Histories for the tests of the checkers: linearizable ones, made from an order."""

import random
from collections.abc import Hashable
from itertools import permutations
from typing import Any

from waypost.sim.checkers.history import Operation
from waypost.sim.checkers.models import UNKNOWN, Model

HEALTHS = ("passing", "critical", "draining")


def op(
    client: str,
    kind: str,
    *args: str,
    result: Any = "ok",
    at: tuple[int, int | None] = (0, 1),
    index: int | None = None,
    key: str = "web",
    **more: Any,
) -> Operation:
    return Operation(client, key, kind, args, result, at[0], at[1], index, **more)


def random_history(
    seed: int, *, count: int, clients: int, instances: int = 3, keys: int = 1, reads: float = 0.5
) -> list[Operation]:
    """A registry with a point in time for each operation, somewhere between call and return."""
    draw = random.Random(seed)
    names = [f"c{n}" for n in range(clients)]
    free_at = dict.fromkeys(names, 0)
    state: dict[str, dict[str, tuple[str, str]]] = {f"s{n}": {} for n in range(keys)}
    history: list[Operation] = []
    now = index = 0
    for number in range(count):
        now += draw.randint(1, 10)
        client = draw.choice(names)
        now = max(now, free_at[client] + 1)
        call = draw.randint(max(free_at[client], now - 30), now)
        back = now + draw.randint(1, 30)
        free_at[client] = back + 1
        key = f"s{draw.randrange(keys)}"
        held = state[key]
        name = f"i{draw.randrange(instances)}"
        if draw.random() < reads:
            rows = tuple((n, *held[n]) for n in sorted(held))
            history.append(
                op(client, "resolve", result=rows, at=(call, back), index=index, key=key)
            )
            continue
        index += 1
        kind = draw.choice(("register", "register", "deregister", "health"))
        args: tuple[str, ...] = (name,)
        result = "ok"
        if kind == "register":
            args = (name, f"v{number}")
            health = held[name][1] if name in held and held[name][1] == "draining" else "passing"
            held[name] = (f"v{number}", health)
        elif name not in held:
            result = UNKNOWN
            args = args if kind == "deregister" else (name, "critical")
        elif kind == "deregister":
            del held[name]
        else:
            args = (name, draw.choice(HEALTHS))
            held[name] = (held[name][0], args[1])
        history.append(
            op(client, kind, *args, result=result, at=(call, back), index=index, key=key, place=0)
        )
    return history


def has_an_order(model: Model[Hashable], operations: list[Operation]) -> bool:
    """Try every order of every choice of those that never came back: slow, and plainly right."""
    due = [o for o in operations if o.back is not None]
    open_ = [o for o in operations if o.back is None]
    for choice in range(1 << len(open_)):
        some = due + [o for n, o in enumerate(open_) if choice >> n & 1]
        if any(_fits(model, order) for order in permutations(some)):
            return True
    return False


def _fits(model: Model[Hashable], order: tuple[Operation, ...]) -> bool:
    state: Hashable | None = model.initial
    earlier_calls: list[int] = []
    for each in order:
        if each.back is not None and any(call > each.back for call in earlier_calls):
            return False
        earlier_calls.append(each.call)
        state = model.step(state, each)
        if state is None:
            return False
    return True
