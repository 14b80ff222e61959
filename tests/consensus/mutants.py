"""Rules of the cores, each broken in one place: a script or a walk must notice.

A test of the tests; by hand, as it takes minutes:

    python -m tests.consensus.mutants [name ...]

``test_mutants`` sees to it that every mutation still has its place.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

ROOT = Path(__file__).parents[2]
CORES = Path("src") / "waypost" / "consensus"
WALK_SECONDS = 12


class Mutant(msgspec.Struct, frozen=True):
    """What to replace in which file; ``row`` of the catalogue of bugs, or the rule."""

    name: str
    row: str
    file: str
    old: str
    new: str
    engines: tuple[str, ...] = ("raft", "paxos")


RAFT, PAXOS = ("raft",), ("paxos",)
_REFUSES = "may_vote and is_free and self._is_up_to_date(message)"
_VOTE = "self._vote(ballot, pre=False, grants=True))"
_CAPPED = "deque((seq, min(last, index - 1), at) for seq, last, at in self._flying)"

MUTANTS = (
    Mutant("figure_8", "1", "raft.py", "counts_from=first)", "counts_from=0)", RAFT),
    Mutant(
        "an_old_append_cuts",
        "2",
        "merging.py",
        "    if first > end:\n        return end\n",
        "    if first > end:\n"
        "        if log.last > end >= site.commit:\n"
        "            log.truncate(end + 1)\n"
        "            site.journal.rewrite(end + 1)\n"
        "        return end\n",
    ),
    Mutant(
        "commit_up_to_last",
        "4",
        "raft.py",
        "min(message.commit, follower.verified)",
        "min(message.commit, site.log.last)",
        RAFT,
    ),
    Mutant(
        "acks_of_any_ballot",
        "6",
        "roles.py",
        "if message.ballot == leader.ballot:\n            if leader.on_ack",
        "if message.ballot:\n            if leader.on_ack",
    ),
    Mutant("half_is_enough", "7", "quorum.py", "members // 2 + 1", "(members + 1) // 2"),
    Mutant(
        "ack_from_memory",
        "8",
        "follower.py",
        "min(self.verified, self._site.durable)",
        "self.verified",
    ),
    Mutant(
        "leader_counts_memory",
        "8",
        "leader.py",
        "append(site.durable if",
        "append(site.log.last if",
    ),
    Mutant(
        "vote_before_fsync",
        "9",
        "raft.py",
        f"journal.hold(src, {_VOTE}",
        f"self._site.send(src, {_VOTE}",
        RAFT,
    ),
    Mutant("aba", "10", "journal.py", f"self._flying = {_CAPPED}", "pass"),
    Mutant(
        "snapshot_keeps_the_log",
        "12",
        "site.py",
        "self.journal.restart(snap, self.commit)",
        "self.journal.restart(snap, log.last)",
    ),
    Mutant(
        "older_snapshot", "13", "site.py", "if snap.index <= self.visible:", "if not snap.index:"
    ),
    Mutant(
        "two_votes",
        "17",
        "raft.py",
        "is_free = ballot.round > current_term or voted_for in (0, src)",
        "is_free = True",
        RAFT,
    ),
    Mutant(
        "promises_are_counted",
        "18",
        "campaign.py",
        "self.promises.setdefault(src, promise)",
        "self.promises[len(self.promises)] = promise",
    ),
    Mutant("any_log_wins", "5.4.1", "raft.py", _REFUSES, "may_vote and is_free", RAFT),
    Mutant("stale_promise", "27", "campaign.py", "promise.ballot != self.ballot or", "", PAXOS),
    Mutant(
        "ask_before_fsync",
        "28",
        "roles.py",
        "journal.hold(nid, message)",
        "site.send(nid, message)",
    ),
    Mutant("no_trim", "29", "paxos.py", "        self._trim(follower.verified)\n", "", PAXOS),
    Mutant(
        "accepted_before_base",
        "29",
        "paxos.py",
        " and follower.verified >= message.base",
        "",
        PAXOS,
    ),
    Mutant("ack_before_sync", "29", "follower.py", " if self.is_synchronised else 0", "", PAXOS),
    Mutant(
        "the_longest_log_wins",
        "29",
        "paxos.py",
        "return self._site.journal.accepted, self._site.log.last",
        "return Ballot(1, 0, 0), self._site.log.last",
        PAXOS,
    ),
    Mutant("no_quiet", "32", "roles.py", "now + election if settings.leases else 0", "0"),
    Mutant(
        "no_barrier",
        "33",
        "reads.py",
        "(asker, token, max(index, barrier))",
        "(asker, token, index)",
    ),
    Mutant(
        "an_older_round",
        "34",
        "reads.py",
        "self._waiting.append((self.newest + 1,",
        "self._waiting.append((self.newest,",
    ),
    Mutant(
        "no_round",
        "37",
        "leader.py",
        "            self._rounds.read(asker, token, index)",
        "            self._answer(asker, token, ok=True, index=index)",
    ),
    Mutant(
        "a_lease_from_now",
        "38",
        "leader.py",
        "return rounds.confirmed_at + site.settings.election * 9 // 10",
        "return site.now + site.settings.election",
    ),
    Mutant("a_lease_in_transfer", "39", "leader.py", "self._may_lease = False", "pass"),
    Mutant(
        "an_amnesiac_votes", "47", "roles.py", "return not self._site.journal.suspect and", "return"
    ),
    Mutant(
        "an_amnesiac_counts",
        "47",
        "follower.py",
        "is_voter = not site.journal.suspect",
        "is_voter = True",
    ),
    Mutant(
        "one_answer_is_enough",
        "50",
        "healing.py",
        "if len(self._answers) < len(self._site.others):",
        "if not self._answers:",
    ),
    Mutant(
        "rot_is_acknowledged",
        "52",
        "site.py",
        "durable = min(self.journal.durable, self.log.first_fault - 1)",
        "durable = self.journal.durable",
    ),
    Mutant(
        "unknown_is_lost",
        "58",
        "answers.py",
        '"unknown", 0, leader) for _, _, token in self._orphans',
        '"lost", 0, leader) for _, _, token in self._orphans',
    ),
    Mutant("ack_before_promise", "G1", "follower.py", " and site.journal.hard_is_durable", ""),
    Mutant("past_the_seal", "G9", "site.py", "log.seal or FOREVER, ", "FOREVER, "),
    Mutant(
        "first_leader_again",
        "R9",
        "roles.py",
        "if may_lead_first and is_first and site.log.last < epoch.first and",
        "if is_first and",
    ),
    Mutant(
        "questions_from_zero",
        "34",
        "follower.py",
        "Questions(int(site.draw() * (1 << 52)))",
        "Questions(0)",
    ),
    Mutant(
        "any_echo",
        "fresh",
        "site.py",
        "return moment if self._started <= moment <= self.now else 0",
        "return moment",
    ),
)

_SCRIPTS = """
from tests.consensus.scripts import SCRIPTS, parts_of, play
for path in sorted(SCRIPTS.glob("*/*.txt")):
    for engine in ("raft", "paxos") if path.parent.name == "both" else (path.parent.name,):
        text = path.read_text()
        try:
            told = zip(play(text, engine), parts_of(text, engine), strict=True)
            is_same = all(said == expected for (_, said), (_, _, expected) in told)
        except Exception:
            is_same = False
        if not is_same:
            print(path.stem)
            raise SystemExit
"""
_WALK = """
import sys, time
from tests.consensus.walk import run, steps_of
end = time.monotonic() + float(sys.argv[2])
seed = 0
while time.monotonic() < end:
    try:
        run(sys.argv[1], seed, steps_of(seed))
    except Exception:
        print(f"{sys.argv[1]} seed {seed}")
        break
    seed += 1
"""


def mutated(mutant: Mutant, source: str) -> str:
    """The file with its rule broken."""
    assert source.count(mutant.old) == 1, f"{mutant.name}: {source.count(mutant.old)} places"
    return source.replace(mutant.old, mutant.new)


def caught_by(mutant: Mutant, folder: Path) -> list[str]:
    """Which script, and which walks, notice."""
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "src", folder / "src", ignore=skip)
    shutil.copytree(ROOT / "tests" / "consensus", folder / "tests" / "consensus", ignore=skip)
    (folder / "tests" / "__init__.py").touch()
    path = folder / CORES / mutant.file
    path.write_text(mutated(mutant, path.read_text()))
    search = os.pathsep.join((str(folder / "src"), str(folder)))
    environment = {**os.environ, "PYTHONPATH": search, "PYTHONDONTWRITEBYTECODE": "1"}
    programs = [[_SCRIPTS], *([_WALK, engine, str(WALK_SECONDS)] for engine in mutant.engines)]
    found = [
        subprocess.run(
            [sys.executable, "-c", *program],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for program in programs
    ]
    return [each for each in found if each]


def main() -> None:
    survivors: list[str] = []
    for mutant in MUTANTS:
        if len(sys.argv) > 1 and mutant.name not in sys.argv[1:]:
            continue
        with tempfile.TemporaryDirectory() as folder:
            found = caught_by(mutant, Path(folder))
        print(f"{mutant.name} ({mutant.row}): {', '.join(found) or 'SURVIVES'}", flush=True)
        if not found:
            survivors.append(mutant.name)
    if survivors:
        raise SystemExit(f"nothing noticed: {', '.join(survivors)}")


if __name__ == "__main__":
    main()
