"""Whose data a directory holds: a file that is written before anything else, whole or not at all.

Format 1 is of a node of its own from before there were clusters: its node id is 1.
"""

import re
import secrets
from typing import Final

import msgspec

from waypost.consensus.epoch import Epoch
from waypost.errors import CorruptData, Invalid
from waypost.storage.disk import Disk

IDENTITY: Final = "identity.json"
FORMAT: Final = 2
SOLO_NID: Final = 1
_NODE_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What the file says."""

    format: int = FORMAT
    cluster: str
    """16 hexadecimal digits; empty as long as the node looks for its cluster."""
    node: str
    nid: int = SOLO_NID
    """Drawn with the directory: an empty directory is a new node, whatever its name."""
    epoch: Epoch | None = None
    """What the node was told when it found its cluster: the first epoch, or a newer one."""
    addresses: dict[int, str] = {}
    """Where nodes were then, by their ids: a node that was alone has no address in its epoch."""
    has_peers: bool = False
    """Whether there are other members, who can repair what rots here."""


def draw_nid() -> int:
    """Draw the node id of a new directory: never that of a format 1."""
    return secrets.randbelow((1 << 32) - 2) + 2


def check_node_name(name: str) -> None:
    """Raise ``Invalid`` unless a node may be called so."""
    if not _NODE_NAME.fullmatch(name):
        raise Invalid(
            f"name: {name!r} is not a node name: use 1 to 63 lower-case letters, digits and inner "
            "hyphens",
            field="name",
        )


def read_identity(disk: Disk, directory: str) -> Identity | None:
    """Read the file; None in an empty directory."""
    if IDENTITY not in disk.names():
        return None
    file = disk.open(IDENTITY)
    try:
        identity = msgspec.json.decode(disk.read(file, 0, 1 << 20), type=Identity)
        int(identity.cluster or "0", 16)
    except (msgspec.MsgspecError, ValueError) as error:
        raise CorruptData(
            f"{directory}/{IDENTITY} cannot be read ({error}): restore it from a backup, or "
            'write {"format": 1, "cluster": "<16 hex digits>", "node": "<name>"} with the cluster '
            'that the log\'s segments name, and their node as "nid"'
        ) from None
    finally:
        disk.close(file)
    if identity.format > FORMAT:
        raise CorruptData(
            f"{directory} was written by a newer version (format {identity.format}): "
            "upgrade waypost to open it"
        )
    return identity


def write_identity(disk: Disk, identity: Identity) -> None:
    """Write the file: durable when this returns."""
    temporary = f"{IDENTITY}.tmp"
    if temporary in disk.names():
        disk.unlink(temporary)  # of a start that was interrupted
    file = disk.create(temporary, 0)
    disk.write(file, [msgspec.json.encode(identity)], 0)
    disk.sync(file)
    disk.close(file)
    disk.rename(temporary, IDENTITY)
    disk.sync_names()
