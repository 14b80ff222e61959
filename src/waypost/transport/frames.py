"""Length-prefixed frames: the unit of everything that is said over a native connection.

A frame is ``length u32 | kind u8 | id u32 | body``, big-endian; ``length`` counts what follows it
(so an empty body makes 5).  Knows nothing of what the kinds mean, and does no I/O: bytes in,
frames out, as they come, whatever the chunks that the network made of them.
"""

from struct import Struct
from typing import Final

from waypost.errors import ProtocolViolation

_HEAD: Final = Struct(">IBI")
_HEAD_BYTES: Final = _HEAD.size
_COUNTED: Final = _HEAD_BYTES - 4
_unpack = _HEAD.unpack_from

Frame = tuple[int, int, bytes]
"""Kind, id and body."""


def encode_frame(kind: int, frame_id: int, body: bytes = b"") -> bytes:
    """Make one frame."""
    return _HEAD.pack(_COUNTED + len(body), kind, frame_id) + body


class FrameReader:
    """Cuts a stream of bytes into frames.

    Invariant: what is kept never holds a whole frame, so it is bounded by ``bytes_max`` and one
    chunk; and each byte is copied a bounded number of times however small the chunks are.
    """

    __slots__ = ("_bytes_max", "_kept", "_missing")

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._kept: list[bytes] = []
        self._missing = 0
        """Bytes that must still come before looking again is worth it."""

    def feed(self, chunk: bytes) -> list[Frame]:
        """Take what arrived and return the frames that are now whole.

        Raises ``ProtocolViolation`` for a frame over the limit or too short to be one; nothing
        that follows on this connection can be trusted after it.
        """
        if not self._kept:
            # What mostly comes is one whole frame, alone.
            if len(chunk) >= _HEAD_BYTES:
                length, kind, frame_id = _unpack(chunk)
                if len(chunk) == 4 + length and _COUNTED <= length <= self._bytes_max:
                    return [(kind, frame_id, chunk[_HEAD_BYTES:])]
        else:
            self._kept.append(chunk)
            self._missing -= len(chunk)
            if self._missing > 0:
                return []
            chunk = b"".join(self._kept)
            self._kept = []
        frames: list[Frame] = []
        end = len(chunk)
        at = 0
        missing = 0
        while end - at >= _HEAD_BYTES:
            length, kind, frame_id = _unpack(chunk, at)
            if not _COUNTED <= length <= self._bytes_max:
                raise ProtocolViolation(
                    f"frame length {length} is outside {_COUNTED} to {self._bytes_max} bytes: "
                    "split the request, or check that this port speaks the native protocol"
                )
            after = at + 4 + length
            if after > end:
                missing = after - end
                break
            frames.append((kind, frame_id, chunk[at + _HEAD_BYTES : after]))
            at = after
        if at < end:
            self._kept = [chunk[at:]]
            self._missing = missing or _HEAD_BYTES - (end - at)
        return frames

    @property
    def has_partial_frame(self) -> bool:
        """Whether the other side owes the rest of a frame."""
        return bool(self._kept)
