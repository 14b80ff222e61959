"""Questions between nodes that have one answer.

A renewal is for the owner of the session, a change of members is for the leader, and a drain waits
for the watchers of every node.

Always true: every call is answered, by the other node or by ``Unavailable`` when it is out of
reach or takes too long; what a node answers for others at the same time is bounded.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from waypost.errors import ERRORS_BY_CODE, Invalid, Overloaded, Unavailable, WaypostError
from waypost.transport import peer_frames
from waypost.transport.peer_frames import CALL, CALL_ANSWER, CALL_FAULT, Call, CallAnswer, CallFault

log = logging.getLogger("waypost.node")

RENEW: Final = "renew"
"""Keep a session alive that the asked node owns; the body is its id."""
SEEN: Final = "seen"
"""Wait until all who watch a service at the asked node have confirmed a revision."""
CLUSTER: Final = "cluster"
"""A ``wire.ClusterAsk`` for the leader, from a client of the asking node."""
PREFLIGHT: Final = "preflight"
"""Try whether the asked node can use an etcd; the body is an epoch's settings."""
JOIN: Final = "join"
"""Make the asking node a member: ``waypost serve --join``."""

ANSWER_S: Final = 3.0
SAY_TRIES: Final = 60
CALLS_MAX: Final = 1_024

Send = Callable[[int, int, bytes], bool]
Answer = Callable[[int, bytes], Awaitable[bytes]]
"""What a verb does: it is told who asks, and the body."""


class Calls:
    """One node's questions and its answers to others'."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._verbs: dict[str, Answer] = {}
        self._asked: dict[int, tuple[int, asyncio.Future[bytes]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._last_token = 0

    def serve(self, verb: str, answer: Answer) -> None:
        """Answer a verb from here on."""
        self._verbs[verb] = answer

    async def call(self, nid: int, verb: str, body: bytes, within_s: float = ANSWER_S) -> bytes:
        """Ask another node."""
        self._last_token += 1
        token = self._last_token
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._asked[token] = (nid, future)
        try:
            if not self._send(nid, CALL, peer_frames.encode(Call(token, verb, body))):
                raise Unavailable(f"node {nid:08x} is out of reach: ask again in a moment")
            async with asyncio.timeout(within_s):
                return await future
        except TimeoutError:
            raise Unavailable(f"node {nid:08x} did not answer within {within_s:g} s") from None
        finally:
            del self._asked[token]

    def take(self, src: int, kind: int, body: bytes) -> None:
        """Take a frame of one of our kinds."""
        if kind == CALL:
            self._begin(src, peer_frames.decode_call(body))
        elif kind == CALL_ANSWER:
            answer = peer_frames.decode_call_answer(body)
            self._settle(src, answer.token, answer.body, None)
        elif kind == CALL_FAULT:
            fault = peer_frames.decode_call_fault(body)
            kind_of = ERRORS_BY_CODE.get(fault.code, Unavailable)
            error = (
                Invalid(fault.message, field=fault.field)
                if kind_of is Invalid
                else kind_of(fault.message)
            )
            self._settle(src, fault.token, b"", error)

    def lost(self, nid: int) -> None:
        """Whoever asked ``nid`` has no answer to wait for."""
        for asked, future in self._asked.values():
            if asked == nid and not future.done():
                future.set_exception(Unavailable(f"node {nid:08x} was lost before it answered"))

    def close(self) -> None:
        """Answer no more."""
        for task in self._tasks:
            task.cancel()

    def _settle(self, src: int, token: int, body: bytes, error: WaypostError | None) -> None:
        nid, future = self._asked.get(token, (0, None))
        if future is None or future.done() or nid != src:
            return
        if error is None:
            future.set_result(body)
        else:
            future.set_exception(error)

    def _begin(self, src: int, call: Call) -> None:
        if len(self._tasks) >= CALLS_MAX:
            overloaded = Overloaded(f"{CALLS_MAX} calls are open at this node")
            self._send(src, CALL_FAULT, _fault(call.token, overloaded))
            return
        task = asyncio.get_running_loop().create_task(self._answer(src, call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, src: int, call: Call) -> None:
        verb = self._verbs.get(call.verb)
        try:
            if verb is None:
                raise Unavailable(f"this node does not know how to {call.verb}: upgrade it")
            body = await verb(src, call.body)
        except WaypostError as error:
            await self._say(src, CALL_FAULT, _fault(call.token, error))
        except Exception:  # whoever asked waits for an answer
            log.exception("a call of %r by node %08x failed by our own mistake", call.verb, src)
            mistake = Unavailable(f"the node that was asked failed at {call.verb}, and logged why")
            await self._say(src, CALL_FAULT, _fault(call.token, mistake))
        else:
            answer = CallAnswer(call.token, body)
            await self._say(src, CALL_ANSWER, peer_frames.encode(answer))

    async def _say(self, src: int, kind: int, body: bytes) -> None:
        """Answer; who has just come is spoken to as soon as it was dialled back."""
        for _ in range(SAY_TRIES):
            if self._send(src, kind, body):
                return
            await asyncio.sleep(ANSWER_S / SAY_TRIES)


def _fault(token: int, error: WaypostError) -> bytes:
    fault = CallFault(token, error.code, error.message, getattr(error, "field", ""))
    return peer_frames.encode(fault)
