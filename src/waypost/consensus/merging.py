"""Taking over another log's entries: what equals ours stays, and only a conflict removes anything.

"If an existing entry conflicts with a new one (same index but different terms), delete the existing
entry and all that follow it.  Append any new entries not already in the log" (Raft, figure 2, steps
3 and 4 of AppendEntries).  Nothing is removed because the other log ends earlier: messages arrive
late and twice.
"""

from waypost.consensus.entry import Index, parse
from waypost.consensus.site import Site


def merge(site: Site, prev: Index, frames: tuple[bytes, ...]) -> Index:
    """Merge the frames after ``prev``, where the logs are equal; return where they end.

    Raises ``CorruptData`` or ``ProtocolViolation`` for frames that are no continuation of the log,
    and then has changed nothing.
    """
    log = site.log
    end = prev + len(frames)
    first = prev + 1
    if prev < log.last:
        first = _first_difference(site, first, frames)
    if first > end:
        return end
    entries = [parse(frame) for frame in frames[first - prev - 1 :]]
    assert first > site.commit, f"entry {first} is committed, and another leader replaces it"
    replaced = first <= log.last
    log.put(entries)
    if replaced:
        site.journal.rewrite(first)
        site.write_repairs()
    return end


def _first_difference(site: Site, first: Index, frames: tuple[bytes, ...]) -> Index:
    """Index of the first of ``frames`` that is not in the log; what rotted is put back."""
    log = site.log
    # What is committed is equal, and may be compacted (openraft#511); it need not be looked at.
    end = first + len(frames)
    for index in range(max(first, min(site.commit, log.first_fault - 1) + 1), end):
        if index > log.last:
            return index
        frame = frames[index - first]
        if log.at(index).frame == frame:
            continue
        if index not in log.faulty:
            return index
        entry = parse(frame)
        if entry.index != index or not log.may_be(index, entry.chain):
            return index
        log.replace(entry)
        site.repaired(index)
        site.write_repairs()
    return end
