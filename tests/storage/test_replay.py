"""What the log is when frames in the middle of it are lost: nothing replaced is ever trusted."""

import pytest
from tests.storage.scribe import Scribe, frames, opened, payload, segments

from waypost.consensus import KIND_BATCH, Ballot, Boot, Hard, Snap, Write
from waypost.consensus.entry import encode
from waypost.errors import CorruptData
from waypost.storage.heads import decode_head
from waypost.storage.records import BODY_START, SECTOR, batch_at
from waypost.storage.simdisk import SimDisk
from waypost.storage.wal import Wal


class Scene:
    """A log with peers, of which whole batches can be lost below the watermark."""

    def __init__(self) -> None:
        self.disk = SimDisk()
        self.scribe = Scribe()
        self.wal: Wal = opened(self.disk, segment_bytes=1 << 20, has_peers=True)[0]

    def write(self, *writes: Write) -> None:
        self.wal.write(writes)

    def lose(self, *numbers: int, file: str = "") -> None:
        """Fill whole batches with garbage."""
        file = file or segments(self.disk)[0]
        data = self.disk.peek(file)
        head = decode_head(data)
        assert head is not None
        at, number = BODY_START, 0
        while header := batch_at(data, at, head.segment):
            if number in numbers:
                self.disk.damage(file, at, b"\x5a" * (header.end - at))
            at, number = header.end, number + 1

    def boot(self, snap: Snap | None = None) -> Boot:
        return opened(self.disk, snap or Snap(0, Ballot(0, 0, 0), 0, 0), has_peers=True)[1]


def test_entries_that_a_lost_batch_replaced_are_not_trusted() -> None:
    scene = Scene()
    scene.write(scene.scribe.append(b"1", b"2", b"3"))
    scene.write(scene.scribe.commit(1))
    scene.write(scene.scribe.replace(2, b"2'", b"3'"))
    scene.write(scene.scribe.append(b"4'", sync=True))
    scene.wal.mark()
    scene.lose(2)

    boot = scene.boot()

    assert boot.faulty == (2, 3)  # on disk stand 2 and 3, once acknowledged and then replaced
    assert boot.entries[0].frame == scene.scribe.log[0].frame
    assert boot.entries[3].frame == scene.scribe.log[3].frame
    assert boot.suspect  # promises stood in the lost batch, and none came after it


def test_later_promises_end_the_suspicion_but_not_the_doubt_in_entries() -> None:
    scene = Scene()
    scene.write(scene.scribe.append(b"1", b"2", b"3"))
    scene.write(scene.scribe.replace(2, b"2'", b"3'"))
    scene.write(scene.scribe.append(b"4'", hard=True))
    scene.wal.mark()
    scene.lose(1)

    boot = scene.boot()

    assert boot.faulty == (1, 2, 3)
    assert not boot.suspect
    assert boot.hard == scene.scribe.hard


def test_the_chain_proves_that_a_lost_batch_replaced_nothing() -> None:
    scene = Scene()
    scene.write(scene.scribe.append(b"1", b"2"))
    scene.write(scene.scribe.commit(0))
    scene.write(scene.scribe.append(b"3", hard=True))
    scene.wal.mark()
    scene.lose(1)

    boot = scene.boot()

    assert boot.faulty == ()
    assert not boot.suspect
    assert frames(boot) == scene.scribe.states[-1].frames


def test_the_count_of_notes_proves_that_only_entries_were_lost() -> None:
    scene = Scene()
    scene.write(scene.scribe.append(b"1", b"2", hard=True))
    scene.write(scene.scribe.append(b"3", b"4"))
    scene.write(scene.scribe.append(b"5"))
    scene.wal.mark()
    scene.lose(1)

    boot = scene.boot()

    assert boot.faulty == (3, 4)
    assert not boot.suspect


def test_a_lost_batch_that_only_replaced_entries_is_noticed_by_the_count_of_notes() -> None:
    scene = Scene()
    scene.write(scene.scribe.append(b"1", b"2", b"3", hard=True))
    del scene.scribe.log[1:]
    scene.scribe.round += 1
    first = scene.scribe.append(b"2'", b"3'")
    scene.write(Write(2, truncate=2, entries=first.entries))
    scene.wal.mark()
    scene.lose(1)

    assert scene.boot().faulty == (1, 2, 3)


def test_entries_replaced_at_the_end_of_a_segment_are_not_trusted_by_the_next_one() -> None:
    scene = Scene()
    scene.wal = opened(scene.disk, segment_bytes=4096, has_peers=True)[0]
    (file,) = segments(scene.disk)
    scene.write(scene.scribe.append(b"1", b"2", b"3", hard=True))
    scene.write(scene.scribe.replace(2, b"2'", b"3'"))
    scene.write(scene.scribe.append(payload(5000, 1)))
    assert len(segments(scene.disk)) == 2
    scene.lose(1, file=file)

    boot = scene.boot()

    assert boot.faulty == (1, 2, 3)
    assert boot.entries[3].frame == scene.scribe.log[3].frame
    assert not boot.suspect


def test_no_batch_of_the_next_segment_clears_a_doubt_about_this_one() -> None:
    scene = Scene()
    scene.wal = opened(scene.disk, segment_bytes=4096, has_peers=True)[0]
    scene.write(scene.scribe.append(b"1", b"2", b"3", hard=True))
    scene.write(scene.scribe.replace(2, b"2'", b"3'"))
    while len(segments(scene.disk)) == 1:
        scene.write(scene.scribe.commit(0))
    scene.lose(1, file=segments(scene.disk)[0])

    assert scene.boot().faulty == (1, 2, 3)


def test_doubt_in_entries_of_an_older_segment_outlives_the_segment_that_raised_it() -> None:
    scene = Scene()
    scene.wal = opened(scene.disk, segment_bytes=4096, has_peers=True)[0]
    scene.write(scene.scribe.append(b"1", b"2", payload(1500, 1), hard=True))
    scene.write(scene.scribe.append(payload(100, 2)))
    scene.write(scene.scribe.replace(2, payload(1500, 3), payload(300, 4)))
    scene.wal.mark()
    assert len(segments(scene.disk)) == 2
    scene.lose(0, file=segments(scene.disk)[1])

    for _ in range(3):
        boot = scene.boot()
        assert boot.faulty == (1, 2, 3)
        assert boot.suspect


def test_the_head_of_the_next_segment_proves_that_nothing_was_replaced() -> None:
    scene = Scene()
    scene.wal = opened(scene.disk, segment_bytes=4096, has_peers=True)[0]
    (file,) = segments(scene.disk)
    scene.write(scene.scribe.append(b"1", b"2", b"3", hard=True))
    scene.write(scene.scribe.commit(0))
    scene.write(scene.scribe.append(payload(5000, 1)))
    scene.lose(1, file=file)

    assert frames(scene.boot()) == scene.scribe.states[-1].frames


def test_nothing_proves_it_when_two_batches_in_a_row_are_lost_at_the_end() -> None:
    scene = Scene()
    scene.write(scene.scribe.append(b"1", b"2", hard=True))
    scene.write(scene.scribe.replace(1, b"1'"))
    scene.write(scene.scribe.append(b"2'"))
    scene.wal.mark()
    scene.lose(1, 2)

    boot = scene.boot()

    assert boot.faulty == (1, 2)
    assert boot.suspect


def test_a_lost_cut_is_done_by_the_next_header_that_tells_where_the_log_ends() -> None:
    scene = Scene()
    scene.write(scene.scribe.append(b"1", b"2", b"3", hard=True))
    scene.write(scene.scribe.commit(1))
    scene.write(scene.scribe.replace(2))
    scene.wal.mark()
    scene.lose(2)

    boot = scene.boot()

    assert frames(boot) == scene.scribe.states[-1].frames


def test_a_lost_mark_of_an_installed_snapshot_still_starts_the_log_behind_it() -> None:
    scene = Scene()
    scene.write(scene.scribe.append(b"1", b"2", hard=True))
    snap = Snap(1000, Ballot(1, 7, 2), KIND_BATCH, 0x1234)
    scene.write(Write(2, truncate=2, snap=snap))
    entry = encode(1001, Ballot(1, 7, 2), KIND_BATCH, b"x", snap.chain)
    scene.write(Write(3, Hard(Ballot(1, 7, 2)), entries=(entry,)))
    scene.wal.mark()
    scene.lose(1)

    boot = scene.boot(snap)

    assert frames(boot) == (entry.frame,)
    assert boot.faulty == ()
    with pytest.raises(CorruptData, match="entries 1 to 1000 are in no snapshot"):
        scene.boot()


def test_an_installed_snapshot_starts_the_log_anew() -> None:
    scene = Scene()
    scene.write(scene.scribe.append(b"1", b"2", b"3", hard=True))
    snap = Snap(50, Ballot(1, 7, 2), KIND_BATCH, 0x1234)
    scene.write(Write(2, truncate=2, snap=snap))
    entry = encode(51, Ballot(1, 7, 2), KIND_BATCH, b"x", snap.chain)
    scene.write(Write(3, entries=(entry,)))

    for _ in range(2):
        boot = scene.boot(snap)
        assert (boot.snap, frames(boot), boot.faulty) == (snap, (entry.frame,), ())


def test_the_mark_of_a_snapshot_inside_the_log_keeps_the_log() -> None:
    scene = Scene()
    scene.write(scene.scribe.append(b"1", b"2", b"3", hard=True))
    _, write = scene.scribe.snapshot(2)
    scene.write(write)

    assert frames(scene.boot()) == scene.scribe.states[-1].frames


@pytest.mark.parametrize("sector", range(3))
def test_a_garbled_sector_costs_what_is_in_it(sector: int) -> None:
    scene = Scene()
    sizes = (300, 400, 350, 250)
    scene.write(scene.scribe.append(*(payload(n, n) for n in sizes), hard=True))
    scene.write(scene.scribe.append(b"end", hard=True))
    scene.wal.mark()
    (file,) = segments(scene.disk)
    scene.disk.damage(file, BODY_START + sector * SECTOR, payload(SECTOR, 7))

    boot = scene.boot()

    assert len(boot.entries) == 5
    assert 0 < len(boot.faulty) < 4
    for index, entry in enumerate(boot.entries, 1):
        if index not in boot.faulty:
            assert entry.frame == scene.scribe.log[index - 1].frame


def test_a_wrong_chain_without_any_damage_is_not_trusted_either() -> None:
    scene = Scene()
    scene.write(scene.scribe.append(b"1", b"2", hard=True))
    stranger = encode(3, Ballot(1, 1, 1), KIND_BATCH, b"3", 0xBAD)
    scene.write(Write(2, entries=(stranger,)))

    wal, boot = opened(scene.disk, has_peers=True)

    assert boot.faulty == (1, 2)
    assert wal.notes[0].endswith("entry 3 does not follow the one before it")


def test_a_log_that_is_cut_before_its_beginning_is_empty() -> None:
    scene = Scene()
    snap = Snap(50, Ballot(1, 7, 2), KIND_BATCH, 0x1234)
    scene.write(Write(1, snap=snap))
    scene.write(Write(2, truncate=40))

    assert scene.boot(snap).entries == ()
    with pytest.raises(CorruptData, match="are in no snapshot"):
        scene.boot()
