"""Protobuf's fields of bytes: a tag, a length, and what is encoded already.

A message is its fields one after the other, and a repeated field is its elements.  So what many
messages have in common is encoded once.

Source: Protocol Buffers, "Encoding".
"""


def field(number: int, value: bytes) -> bytes:
    """Write a field of bytes, text or a message."""
    return head(number, len(value)) + value


def head(number: int, length: int) -> bytes:
    """Announce a field of so many bytes."""
    written = bytearray(((number << 3) | 2,))
    while length > 0x7F:
        written.append(length & 0x7F | 0x80)
        length >>= 7
    written.append(length)
    return bytes(written)
