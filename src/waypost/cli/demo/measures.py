"""What the stories measure with: waiting for a condition, and times in words."""

import asyncio
import time
from collections.abc import Callable
from typing import Final

from waypost.cli.demo.cast import Failure
from waypost.cli.demo.stage import Stage
from waypost.cli.demo.traffic import Traffic

WAIT_S_MAX: Final = 15.0
LOOK_EVERY_S: Final = 0.001


async def until(is_so: Callable[[], bool], what: str) -> None:
    """Wait for a condition.  Raises ``Failure`` if it is waited for in vain."""
    deadline = time.monotonic() + WAIT_S_MAX
    while not is_so():
        if time.monotonic() > deadline:
            raise Failure(f"waited {WAIT_S_MAX:g} s in vain for {what}")
        await asyncio.sleep(LOOK_EVERY_S)


def claim_no_failure(stage: Stage, traffic: Traffic, words: str, began: float) -> None:
    """Say that no call since then failed."""
    calls, failures = traffic.since(began), traffic.failures_since(began)
    stage.claim(
        f"failed calls: {words} ({len(calls)} made)",
        bool(calls) and not failures,
        f"{len(failures)} failed, the first with {failures[-1].error}" if failures else "",
    )


def ms_since(began: float) -> str:
    """How long ago that was."""
    return f"{(time.monotonic() - began) * 1000:.0f} ms"


def s_since(began: float) -> str:
    """How long ago that was."""
    return f"{time.monotonic() - began:.1f} s"
