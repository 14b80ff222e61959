"""The decision table, one test for each row and column.

Everywhere: three synced batches, then damage to the last (beyond the watermark: nothing written
after it says that it was durable) or to an earlier one (below it).
"""

import pytest
from tests.storage.scribe import Scribe, frames, opened, payload, segments

from waypost.consensus import Boot, Write
from waypost.consensus.entry import HEADER_BYTES
from waypost.errors import CorruptData
from waypost.storage.heads import decode_head
from waypost.storage.records import (
    BODY_START,
    SECTOR,
    BatchHeader,
    batch_at,
)
from waypost.storage.recovery import chain_of
from waypost.storage.simdisk import SimDisk

SIZES = ((600, 700), (500,), (900, 300, 400))  # of the payloads in each batch


class Scene:
    """A log of three batches on a disk whose process has died."""

    def __init__(self, *, hard_in_last: bool = False, segment_bytes: int = 1 << 20) -> None:
        self.disk = SimDisk()
        self.scribe = Scribe()
        wal, _ = opened(self.disk, segment_bytes=segment_bytes)
        for number, sizes in enumerate(SIZES):
            parts = (payload(size, number * 10 + i) for i, size in enumerate(sizes))
            is_last = number == len(SIZES) - 1
            wal.write([self.scribe.append(*parts, hard=number == 0 or (is_last and hard_in_last))])
        self.wal = wal
        self.file = segments(self.disk)[0]

    def batches(self) -> list[BatchHeader]:
        data = self.disk.peek(self.file)
        head = decode_head(data)
        assert head is not None
        found: list[BatchHeader] = []
        at = BODY_START
        while header := batch_at(data, at, head.segment):
            found.append(header)
            at = header.end
        return found

    def entry_at(self, batch: int, number: int) -> int:
        """Offset of an entry's frame; the promises, if any, come behind the entries."""
        offset = self.batches()[batch].body
        for size in SIZES[batch][:number]:
            offset += HEADER_BYTES + (size + 7) // 8 * 8
        return offset

    def frames_before(self, batch: int) -> tuple[bytes, ...]:
        return self.scribe.states[batch].frames

    def refused(self) -> str:
        with pytest.raises(CorruptData) as caught:
            opened(self.disk)
        return caught.value.message

    def reported(self) -> Boot:
        return opened(self.disk, has_peers=True)[1]


def zeroed(scene: Scene, offset: int, size: int = SECTOR) -> None:
    scene.disk.damage(scene.file, offset, bytes(size))


# Row 1: bad batch header.


def test_a_bad_batch_header_below_the_watermark_costs_nothing_when_its_frames_are_sound() -> None:
    scene = Scene()
    scene.disk.flip(scene.file, scene.batches()[1].offset + 20)

    wal, boot = opened(scene.disk)

    assert frames(boot) == scene.scribe.states[-1].frames
    assert wal.notes == (f"{scene.file}: offset {BODY_START + 1536}: rot in the header of a batch",)


def test_a_bad_batch_header_below_the_watermark_makes_missing_indexes_faulty() -> None:
    scene = Scene()
    zeroed(scene, scene.batches()[1].offset, 2 * SECTOR)

    boot = scene.reported()

    assert boot.faulty == (3,)
    assert len(boot.entries) == 6
    assert frames(boot)[3:] == scene.scribe.states[-1].frames[3:]


def test_a_single_node_stops_at_rot_and_says_from_where_on_writes_are_lost() -> None:
    scene = Scene()
    zeroed(scene, scene.batches()[1].offset, 2 * SECTOR)

    assert "rot in the header of a batch. Acknowledged writes from entry 3 on" in scene.refused()


def test_no_batch_and_only_zeros_beyond_the_watermark_is_the_end_of_the_log() -> None:
    scene = Scene()

    wal, boot = opened(scene.disk)

    assert frames(boot) == scene.scribe.states[-1].frames
    assert wal.notes == ()


def test_a_batch_whose_beginning_never_arrived_is_the_end_of_the_log() -> None:
    scene = Scene()
    zeroed(scene, scene.batches()[2].offset)

    wal, boot = opened(scene.disk)

    assert frames(boot) == scene.frames_before(2)
    assert "cut a torn batch" in wal.notes[0]


def test_a_bad_batch_header_that_no_torn_write_explains_is_suspect() -> None:
    scene = Scene()
    offset = scene.batches()[2].offset
    scene.disk.flip(scene.file, offset + 20)

    boot = scene.reported()

    assert boot.suspect
    assert frames(boot) == scene.frames_before(2)


def test_a_suspect_tail_of_a_single_node_names_file_offset_and_flag() -> None:
    scene = Scene()
    offset = scene.batches()[2].offset
    scene.disk.flip(scene.file, offset + 20)

    message = scene.refused()

    assert f"{scene.file}: offset {offset}: " in message
    assert "Acknowledged writes from entry 4 on may be lost" in message
    assert "--accept-data-loss" in message


# Row 2: bad payload, good header.


def test_a_rotten_payload_below_the_watermark_is_faulty_by_index_and_ballot() -> None:
    scene = Scene()
    scene.disk.flip(scene.file, scene.entry_at(0, 1) + HEADER_BYTES + 5)

    boot = scene.reported()

    assert boot.faulty == (2,)
    assert not boot.suspect
    assert boot.entries[1].ballot == scene.scribe.log[1].ballot
    assert frames(boot)[2:] == scene.scribe.states[-1].frames[2:]


def test_a_rotten_payload_below_the_watermark_stops_a_single_node() -> None:
    scene = Scene()
    scene.disk.flip(scene.file, scene.entry_at(0, 1) + HEADER_BYTES + 5)

    assert "rot in a batch of 3 frames. Acknowledged writes from entry 2 on" in scene.refused()


def test_a_payload_with_a_missing_sector_beyond_the_watermark_is_torn_and_its_batch_cut() -> None:
    scene = Scene()
    zeroed(scene, scene.batches()[2].offset + 2 * SECTOR)

    wal, boot = opened(scene.disk)

    assert frames(boot) == scene.frames_before(2)
    assert "cut a torn batch" in wal.notes[0]


def test_a_payload_that_no_torn_write_explains_is_suspect() -> None:
    scene = Scene()
    scene.disk.flip(scene.file, scene.entry_at(2, 0) + HEADER_BYTES + 5)

    assert "damage that no torn write leaves" in scene.refused()
    assert scene.reported().suspect


# Row 3: bad frame header.


def test_a_bad_entry_header_below_the_watermark_is_faulty_up_to_the_next_good_frame() -> None:
    scene = Scene()
    scene.disk.flip(scene.file, scene.entry_at(0, 0) + 10)

    boot = scene.reported()

    assert boot.faulty == (1,)
    assert boot.entries[0].frame == b""
    assert not boot.suspect  # the header of the batch says that only an entry is missing
    assert frames(boot)[1:] == scene.scribe.states[-1].frames[1:]


def test_a_bad_last_entry_header_below_the_watermark_is_known_missing() -> None:
    scene = Scene()
    scene.disk.flip(scene.file, scene.entry_at(1, 0) + 10)

    boot = scene.reported()

    assert boot.faulty == (3,)
    assert len(boot.entries) == 6


def test_a_frame_header_in_a_missing_sector_beyond_the_watermark_is_torn() -> None:
    scene = Scene()
    offset = scene.entry_at(2, 1)
    zeroed(scene, offset - offset % SECTOR)

    _, boot = opened(scene.disk)

    assert frames(boot) == scene.frames_before(2)


def test_a_frame_header_that_no_torn_write_explains_is_suspect() -> None:
    scene = Scene()
    scene.disk.flip(scene.file, scene.entry_at(2, 1) + 10)

    assert "damage that no torn write leaves" in scene.refused()


def test_a_frame_that_belongs_elsewhere_is_not_believed_although_it_is_whole() -> None:
    disk, scribe = SimDisk(), Scribe()
    wal, _ = opened(disk, has_peers=True)
    wal.write([scribe.append(payload(200, 1), hard=True)])
    wal.write([scribe.append(payload(200, 2), payload(200, 3))])
    wal.mark()
    (file,) = segments(disk)
    data = disk.peek(file)
    misdirected = data.index(scribe.log[1].frame)
    disk.damage(file, misdirected, scribe.log[0].frame)

    boot = opened(disk, has_peers=True)[1]

    assert boot.faulty == (2, 3)


# Row 4: promises unreadable.


def test_unreadable_promises_below_the_watermark_give_way_to_newer_ones() -> None:
    scene = Scene(hard_in_last=True)
    hard_at = scene.entry_at(0, 2)
    scene.disk.flip(scene.file, hard_at + HEADER_BYTES + 2)

    boot = scene.reported()

    assert not boot.suspect
    assert boot.faulty == ()
    assert boot.hard.promised == scene.scribe.hard.promised


@pytest.mark.parametrize("where", [10, HEADER_BYTES + 2], ids=["header", "payload"])
def test_the_newest_promises_unreadable_below_the_watermark_make_the_node_suspect(
    where: int,
) -> None:
    scene = Scene()
    scene.disk.flip(scene.file, scene.entry_at(0, 2) + where)

    assert "promises may be lost" in scene.refused()
    boot = scene.reported()
    assert boot.suspect
    assert len(boot.entries) == 6


def test_promises_in_a_missing_sector_beyond_the_watermark_are_cut_with_their_batch() -> None:
    scene = Scene(hard_in_last=True)
    zeroed(scene, scene.entry_at(2, 3))

    _, boot = opened(scene.disk)

    assert frames(boot) == scene.frames_before(2)
    assert boot.hard == scene.scribe.states[2].hard


def test_promises_that_no_torn_write_explains_are_suspect() -> None:
    scene = Scene(hard_in_last=True)
    scene.disk.flip(scene.file, scene.entry_at(2, 3) + 10)

    assert scene.reported().suspect


@pytest.mark.parametrize("where", [10, HEADER_BYTES + 2], ids=["header", "payload"])
def test_the_head_of_the_next_segment_repeats_the_promises(where: int) -> None:
    scene = Scene(segment_bytes=4096)
    assert len(segments(scene.disk)) > 1
    scene.disk.flip(scene.file, scene.entry_at(0, 2) + where)

    boot = scene.reported()

    assert not boot.suspect
    assert boot.hard == scene.scribe.hard


# Row 5: segment missing.


def test_a_missing_segment_stops_every_node() -> None:
    disk, scribe = SimDisk(), Scribe()
    wal, _ = opened(disk, segment_bytes=4096)
    for number in range(12):
        wal.write([scribe.append(payload(900, number))])
    disk.unlink(segments(disk)[1])

    for has_peers in (False, True):
        with pytest.raises(CorruptData, match="are in no snapshot and no segment"):
            opened(disk, has_peers=has_peers)


def test_a_missing_segment_that_a_snapshot_covers_is_not_missed() -> None:
    disk, scribe = SimDisk(), Scribe()
    wal, _ = opened(disk, segment_bytes=4096)
    for number in range(12):
        wal.write([scribe.append(payload(900, number))])
    snap, write = scribe.snapshot(8)
    wal.write([write])
    disk.unlink(segments(disk)[0])
    disk.unlink(segments(disk)[0])

    _, boot = opened(disk, snap)

    assert frames(boot) == scribe.states[-1].frames[8:]


# The watermark itself.


def test_a_later_batch_moves_the_watermark_over_the_one_before() -> None:
    scene = Scene()
    scene.disk.flip(scene.file, scene.entry_at(1, 0) + HEADER_BYTES + 5)

    assert "rot" in scene.refused()


def test_an_idle_mark_moves_the_watermark_over_the_last_batch() -> None:
    scene = Scene()
    scene.wal.mark()
    scene.disk.flip(scene.file, scene.entry_at(2, 0) + HEADER_BYTES + 5)

    boot = scene.reported()

    assert boot.faulty == (4,)
    assert not boot.suspect


def test_an_unsynced_batch_does_not_move_the_watermark() -> None:
    scene = Scene()
    scene.wal.write([scene.scribe.append(payload(500, 99), sync=False)])
    scene.wal.write([scene.scribe.append(payload(500, 98), sync=False)])
    third, fourth = scene.batches()[3:]
    assert third.durable_end == third.offset
    assert fourth.durable_end == third.offset


def test_a_start_moves_the_watermark_over_all_that_it_found() -> None:
    scene = Scene()
    opened(scene.disk)
    scene.file = segments(scene.disk)[0]
    scene.disk.flip(scene.file, scene.batches()[0].body + HEADER_BYTES + 5)

    assert "rot" in scene.refused()


def test_a_sealed_segment_is_durable_to_its_end() -> None:
    scene = Scene(segment_bytes=4096)
    last = scene.batches()[-1]
    scene.disk.flip(scene.file, last.body + HEADER_BYTES + 5)

    boot = scene.reported()

    assert len(boot.faulty) == 1
    assert not boot.suspect


def test_the_header_of_the_last_batch_of_a_sealed_segment_may_rot() -> None:
    scene = Scene(segment_bytes=4096)
    scene.disk.flip(scene.file, scene.batches()[-1].offset + 20)

    _, boot = opened(scene.disk)

    assert frames(boot) == scene.scribe.states[-1].frames


# What power loss does is never suspect.


def test_every_torn_sector_of_the_last_batch_is_cut_and_never_suspect() -> None:
    count = (Scene().batches()[2].end - Scene().batches()[2].offset) // SECTOR
    assert count >= 4
    for sector in range(count):
        for cut in (8, 48, 56, 64, 256, 504):
            for part_lost in ("front", "back", "all"):
                scene = Scene()
                offset = scene.batches()[2].offset + sector * SECTOR
                if part_lost == "front":
                    zeroed(scene, offset, cut)
                elif part_lost == "back":
                    zeroed(scene, offset + cut, SECTOR - cut)
                else:
                    zeroed(scene, offset)

                _, boot = opened(scene.disk)

                # Losing only filler loses nothing; anything else loses the batch, and no more.
                assert frames(boot) in (scene.frames_before(2), scene.frames_before(3))


def test_every_flipped_bit_of_the_last_batch_is_suspect_or_without_effect() -> None:
    count = Scene().batches()[2].end - Scene().batches()[2].offset
    for byte in range(0, count, 7):
        scene = Scene()
        offset = scene.batches()[2].offset + byte
        scene.disk.flip(scene.file, offset, 0x10)

        boot = scene.reported()

        if not boot.suspect:
            assert frames(boot) == scene.frames_before(3)


def test_every_flipped_bit_below_the_watermark_is_faulty_or_without_effect() -> None:
    for byte in range(0, 1500, 11):
        scene = Scene()
        scene.disk.flip(scene.file, scene.batches()[0].offset + byte, 0x10)

        boot = scene.reported()

        assert len(boot.entries) == 6
        for index, entry in enumerate(boot.entries, 1):
            assert (index in boot.faulty) != (entry.frame == scene.scribe.log[index - 1].frame)


def test_accepted_loss_keeps_everything_before_the_damage() -> None:
    scene = Scene()
    scene.disk.flip(scene.file, scene.entry_at(1, 0) + HEADER_BYTES + 5)

    wal, boot = opened(scene.disk, accept_data_loss=True)

    assert frames(boot) == scene.scribe.states[-1].frames[:2]
    assert not boot.suspect
    assert boot.faulty == ()
    scene.scribe.restart(boot)
    wal.write([scene.scribe.append(b"on we go")])
    assert frames(opened(scene.disk)[1]) == scene.scribe.states[-1].frames


def test_accepted_loss_cuts_a_suspect_tail() -> None:
    scene = Scene()
    scene.disk.flip(scene.file, scene.entry_at(2, 0) + HEADER_BYTES + 5)

    _, boot = opened(scene.disk, accept_data_loss=True)

    assert frames(boot) == scene.frames_before(2)
    assert frames(opened(scene.disk)[1]) == scene.frames_before(2)


def test_what_is_faulty_or_suspect_stays_so_over_restarts() -> None:
    scene = Scene()
    scene.disk.flip(scene.file, scene.entry_at(0, 0) + 10)
    scene.disk.flip(scene.file, scene.entry_at(0, 1) + HEADER_BYTES + 5)
    scene.disk.flip(scene.file, scene.entry_at(2, 0) + HEADER_BYTES + 5)

    first = scene.reported()
    second = scene.reported()

    assert first == second
    assert (first.faulty, first.suspect) == ((1, 2), True)


def test_a_repaired_log_is_whole_again() -> None:
    scene = Scene()
    scene.disk.flip(scene.file, scene.entry_at(0, 0) + 10)
    scene.disk.flip(scene.file, scene.entry_at(0, 1) + HEADER_BYTES + 5)
    wal, boot = opened(scene.disk, has_peers=True)
    assert boot.faulty == (1, 2)

    # From above: what is still unreadable is written as such.
    wal.write([Write(1, truncate=2, entries=(*scene.scribe.log[1:2], *boot.entries[2:]))])
    half = scene.reported()
    assert half.faulty == (1,)
    wal, boot = opened(scene.disk, has_peers=True)
    wal.write([Write(1, truncate=1, entries=(scene.scribe.log[0], *boot.entries[1:]))])

    assert frames(opened(scene.disk)[1]) == scene.scribe.states[-1].frames


def test_the_log_is_the_chain_of_segments_that_ends_in_the_newest() -> None:
    disk, scribe = SimDisk(), Scribe()
    wal, _ = opened(disk, segment_bytes=4096)
    for number in range(9):
        wal.write([scribe.append(payload(900, number))])
    heads = {}
    for name in segments(disk):
        head = decode_head(disk.peek(name))
        assert head is not None
        heads[name] = head

    assert chain_of(heads) == segments(disk)
    middle = segments(disk)[1]
    del heads[middle]
    assert chain_of(heads) == segments(disk)[2:]
