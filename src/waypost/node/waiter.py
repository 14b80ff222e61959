"""A write whose answer is awaited, one at a time: what the coroutines of ``Registry`` stand on."""

import asyncio

from waypost.commands import Outcome
from waypost.errors import WaypostError
from waypost.wire import Outcomes


class Waiter:
    """An owner whose answer is a future: for doors that await one thing at a time."""

    __slots__ = ("future",)

    def __init__(self) -> None:
        self.future: asyncio.Future[Outcomes] = asyncio.get_running_loop().create_future()

    def answered(self, ticket: int, revision: int, outcomes: list[Outcome]) -> None:  # noqa: ARG002
        """It is committed, or was refused: each outcome says which."""
        if not self.future.done():
            self.future.set_result(Outcomes(revision, outcomes))

    def failed(self, ticket: int, error: WaypostError) -> None:  # noqa: ARG002
        """It did not happen, or may not have."""
        if not self.future.done():
            self.future.set_exception(error)
