"""A small language for conversations between cores, and the transcripts of what they answer.

After the interaction tests of etcd-io/raft (``rafttest``): a script is a text file of commands,
each followed by ``----`` and by what it is to print.  Where the engines differ, ``---- raft`` and
``---- paxos`` follow each other.  Time stands still but for ``campaign``, ``tick`` and ``wait``;
messages and writes wait until they are delivered and persisted.

    nodes N [first=ID] [leases] [trailing=N] [bytes=N] [uncommitted=N]     N members
    lead ID               elect a node, quietly: all deliver and persist until nobody has anything
    campaign ID           its clock runs to its deadline
    tick MS [ID ...]      time passes; the nodes named, or all, are told if they are late
    wait MS               time passes, and nobody is told
    deliver [A>B|>B|A>] [Kind] [count=N] [keep]     in order; ``keep``: and once more, later
    drop    [A>B|>B|A>] [Kind] [count=N]
    hold    [A>B|>B|A>] [Kind] [count=N]    and release: they are late
    cut A B ... / mend    nodes A, B ... and the others do not hear each other any more
    cut A-B ...           only A and B do not
    persist ID [count=N]  writes under way become durable
    stall ID              its writes become durable by ``persist`` only
    settle [MS]           everything is delivered and persisted, quietly, for some time
    propose ID X ...      batches; the name is the answer's; X*N: of N bytes
    seal ID X / read ID R / transfer ID TO / gone ID WHO / space ID full|free
    snapshot ID / install A>B / lost A>B      take one, carry one, lose one
    crash ID [keep=N]     of the writes under way, N reached the disk
    restart ID [rotten=I,J] [forgets=I] [loses=I]     with rotten entries; with the log from I on
                          and the promises lost; with that log lost, and nobody noticed
    log ID ... / status [ID ...]

    python -m tests.consensus.scripts --rewrite [file ...]
"""

import sys
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path

from waypost.consensus.core import Ballot, Entry, Hard, Message, Ready, Snap, Status, Write
from waypost.consensus.entry import KIND_BATCH, KIND_SEAL
from waypost.consensus.epoch import Epoch, Peer
from waypost.consensus.messages import (
    Ack,
    Append,
    Handoff,
    Hello,
    HelloAck,
    Prepare,
    Promise,
    Read,
    ReadAt,
    Repair,
    Repaired,
)
from waypost.consensus.settings import Settings

from .hosts import Host, over_the_wire

SCRIPTS = Path(__file__).parent / "scripts"
MS = 1_000_000
EPOCH = 1


def ballot(value: Ballot) -> str:
    """Round and node: the epoch is always the same."""
    return f"{value.round}.{value.node}"


def entries(found: Iterable[Entry]) -> str:
    """Index and ballot of each entry."""
    return " ".join(f"{each.index}@{ballot(each.ballot)}{_name(each)}" for each in found)


def _name(entry: Entry) -> str:
    if not entry.frame:
        return "(unreadable)"
    if entry.kind == KIND_BATCH:
        return f"({bytes(entry.payload).decode(errors='replace').rstrip('.')})"
    return "(seal)" if entry.kind == KIND_SEAL else ""


def describe(message: Message) -> str:
    """A message in a few words."""
    match message:
        case Prepare():
            name = "PrePrepare" if message.pre else "Prepare"
            force = " force" if message.force else ""
            log = f"log={message.last}@{ballot(message.accepted)} commit={message.commit}"
            return f"{name} {ballot(message.ballot)} {log}{force}"
        case Promise():
            name = "PrePromise" if message.pre else "Promise"
            said = "yes" if message.ok else "no"
            suffix = f" suffix={message.first}+{len(message.suffix)}" if message.suffix else ""
            held = " withheld" if message.withheld else ""
            log = f"log={message.last}@{ballot(message.accepted)}"
            return f"{name} {ballot(message.ballot)} {said} {log}{suffix}{held}"
        case Append():
            prev = f"prev={message.prev}@{ballot(message.prev_ballot)}"
            count = f" +{len(message.frames)}" if message.frames else ""
            cut_off = "" if message.connected else " cut-off"
            rest = f"commit={message.commit} round={message.round}{cut_off}"
            return f"Append {ballot(message.ballot)} {prev}{count} {rest}"
        case Ack(ok=True):
            rest = f"match={message.match} held={message.held} round={message.round}"
            return f"Ack {ballot(message.ballot)} {rest}"
        case Ack():
            hint = f"hint={message.hint}@{ballot(message.hint_ballot)}"
            return f"Ack {ballot(message.ballot)} no {hint} match={message.match}"
        case Read():
            return f"Read {ballot(message.ballot)}"
        case ReadAt():
            return f"ReadAt {message.index}" if message.ok else "ReadAt no"
        case Handoff():
            return f"Handoff {ballot(message.ballot)}"
        case Hello():
            return f"Hello {ballot(message.ballot)}"
        case HelloAck():
            leads = f" leads last={message.last}" if message.leads else ""
            return f"HelloAck {ballot(message.ballot)}{leads}"
        case Repair():
            return f"Repair {','.join(map(str, message.indexes))}"
        case Repaired():
            return f"Repaired +{len(message.frames)}"


def describe_write(write: Write) -> str:
    """What a write holds, in the order in which it is on disk."""
    parts: list[str] = []
    if write.truncate is not None:
        parts.append(f"cut {write.truncate}")
    if write.entries:
        parts.append(entries(write.entries))
    if write.snap is not None:
        parts.append(f"snap {write.snap.index}")
    if write.hard is not None:
        hard = write.hard
        parts.append(f"promised {ballot(hard.promised)}")
        if hard.accepted.round:
            parts.append(f"accepted {ballot(hard.accepted)}")
        if hard.suspect:
            parts.append("suspect")
    return f"write: {'; '.join(parts)}"


def describe_status(status: Status) -> str:
    """Where a core stands."""
    leader = f" leader={status.leader}" if status.leader and status.role != "leader" else ""
    sealed = f" sealed={status.sealed}" if status.sealed else ""
    where = f"last={status.last} durable={status.durable} commit={status.commit}"
    return f"{status.role} {ballot(status.ballot)}{leader} {where}{sealed}"


class Stage:
    """The cluster of one script."""

    def __init__(self, engine: str) -> None:
        self.engine = engine
        self.now = 1000 * MS
        self.hosts: dict[int, Host] = {}
        self.net: list[tuple[int, int, Message]] = []
        self.lines: list[str] = []
        self.is_quiet = False
        self.groups: list[set[int]] = []
        self.pairs: set[frozenset[int]] = set()
        self.stalled: list[Host] = []
        self.late: list[tuple[int, int, Message]] = []
        self.installs: list[tuple[int, int, int]] = []
        self.snaps: dict[int, Snap] = {}
        self.names: dict[int, str] = {}
        self.verbs: dict[str, Callable[[list[str]], None]] = {
            name.removeprefix("do_"): getattr(self, name)
            for name in dir(self)
            if name.startswith("do_")
        }

    def run(self, command: str) -> str:
        """Do one line of commands; what it printed."""
        self.lines = []
        for line in command.strip().splitlines():
            verb, *words = line.split()
            try:
                self.verbs[verb](words)
            except Exception as error:
                error.add_note(f"in {line!r}, after {self.lines}")
                raise
        return "\n".join(self.lines) or "ok"

    def say(self, line: str, *, always: bool = False) -> None:
        if always or not self.is_quiet:
            self.lines.append(line)

    # Carrying

    def after(self, host: Host) -> None:
        """Do what the core asks for, and tell of it."""
        before = host.commit
        nid = host.nid
        for ready in host.drain(self.now):
            self._tell(nid, ready)
            for dst, message in ready.send:
                self.net.append((nid, dst, over_the_wire(message)))
                self.say(f"{nid}>{dst} {describe(message)}")
            if ready.write is not None:
                self.say(f"{nid}: {describe_write(ready.write)}")
            for dst, index in ready.send_snapshot:
                self.installs.append((nid, dst, index))
                self.say(f"{nid}: snapshot {index} for {dst}")
            if ready.restore is not None:
                self.say(f"{nid}: restores {ready.restore.index}")
        if host.commit != before:
            self.say(f"{nid}: commit {host.commit}")

    def _tell(self, nid: int, ready: Ready) -> None:
        status = ready.status
        if status is not None:
            match status.role:
                case "leader":
                    self.say(f"{nid}: leads {ballot(status.ballot)}", always=True)
                case "pre" | "candidate":
                    self.say(f"{nid}: {status.role} {ballot(status.ballot)}")
                case _ if status.leader:
                    self.say(f"{nid}: follows {ballot(status.ballot)}")
                case _:
                    self.say(f"{nid}: {status.role}")
            if status.sealed:
                self.say(f"{nid}: sealed at {status.sealed}", always=True)
        for done in ready.done:
            where = f" at {done.index}" if done.index else ""
            hint = f", ask {done.hint}" if done.what == "refused" and done.hint else ""
            self.say(f"{nid}: {self.names[done.token]} {done.what}{where}{hint}", always=True)
        for token, index in ready.reads:
            self.say(f"{nid}: {self.names[token]} reads at {index}", always=True)
        for token in ready.reads_failed:
            self.say(f"{nid}: {self.names[token]} failed", always=True)

    def token(self, name: str) -> int:
        """A token for a name."""
        number = len(self.names) + 1
        self.names[number] = name
        return number

    def up(self, words: Iterable[str] = ()) -> list[Host]:
        """The nodes named, or all, that run."""
        wanted = [int(word) for word in words] or list(self.hosts)
        return [self.hosts[nid] for nid in wanted if self.hosts[nid].core is not None]

    def is_cut(self, src: int, dst: int) -> bool:
        """Whether a message from ``src`` cannot reach ``dst``."""
        if frozenset((src, dst)) in self.pairs:
            return True
        return any((src in group) != (dst in group) for group in self.groups)

    # Commands

    def do_nodes(self, words: list[str]) -> None:
        count = int(words[0])
        options = dict(word.split("=") for word in words[1:] if "=" in word)
        first = int(options.get("first", 0))
        settings = Settings(
            leases="leases" in words,
            trailing_entries=int(options.get("trailing", 10_000)),
            append_bytes_max=int(options.get("bytes", 1 << 18)),
            uncommitted_bytes_max=int(options.get("uncommitted", 1 << 24)),
        )
        peers = {nid: Peer(str(nid), "") for nid in range(1, count + 1)}
        epoch = Epoch(1, EPOCH, self.engine, peers, 1, first)
        promised = Ballot(EPOCH, 1, first) if first else Ballot(EPOCH, 0, 0)
        for nid in peers:
            hard = Hard(promised, Ballot(EPOCH, 0, 0))
            draw = _steady(nid / 10)
            self.hosts[nid] = Host(nid, epoch, self.engine, settings, draw, hard)
        self.is_quiet = True
        for host in self.hosts.values():
            host.boot(self.now, may_lead_first=True)
            self.after(host)
        self.is_quiet = False

    def do_lead(self, words: list[str]) -> None:
        nid = int(words[0])
        self.is_quiet = True
        for _ in range(5):
            self.do_campaign(words)
            self._settle()
            core = self.hosts[nid].core
            assert core is not None
            if core.status.role == "leader":
                break
        self.is_quiet = False

    def do_campaign(self, words: list[str]) -> None:
        host = self.hosts[int(words[0])]
        assert host.core is not None
        self.now = max(self.now, host.core.deadline)
        host.tick(self.now)
        self.after(host)

    def do_tick(self, words: list[str]) -> None:
        self.now += int(words[0]) * MS
        for host in self.up(words[1:]):
            if host.core is not None and host.core.deadline <= self.now:
                host.tick(self.now)
                self.after(host)

    def do_wait(self, words: list[str]) -> None:
        self.now += int(words[0]) * MS

    def do_deliver(self, words: list[str]) -> None:
        for src, dst, message in self._take(words, keep="keep" in words):
            host = self.hosts[dst]
            if host.core is not None and not self.is_cut(src, dst):
                self.say(f"{src}>{dst} arrives: {describe(message)}")
                host.core.receive(self.now, src, message)
                self.after(host)

    def do_drop(self, words: list[str]) -> None:
        self._take(words, keep=False)

    def _take(self, words: list[str], *, keep: bool) -> list[tuple[int, int, Message]]:
        """The messages that the words name, in order."""
        arrow = next((word for word in words if ">" in word), ">")
        src, _, dst = arrow.partition(">")
        kinds = [word for word in words if word[0].isupper()]
        limit = int(next((word[6:] for word in words if word.startswith("count=")), 1000))
        found: list[tuple[int, int, Message]] = []
        rest: list[tuple[int, int, Message]] = []
        for each in self.net:
            is_wanted = (
                len(found) < limit
                and (not src or int(src) == each[0])
                and (not dst or int(dst) == each[1])
                and (not kinds or describe(each[2]).split()[0] in kinds)
            )
            if is_wanted:
                found.append(each)
            if not is_wanted or keep:
                rest.append(each)
        self.net = rest
        return found

    def do_hold(self, words: list[str]) -> None:
        self.late += self._take(words, keep=False)

    def do_release(self, words: list[str]) -> None:
        self.net, self.late = self.late + self.net, []

    def do_cut(self, words: list[str]) -> None:
        pairs = [word.split("-") for word in words if "-" in word]
        self.pairs |= {frozenset((int(a), int(b))) for a, b in pairs}
        if not pairs:
            self.groups.append({int(word) for word in words})

    def do_mend(self, words: list[str]) -> None:
        self.groups.clear()
        self.pairs.clear()

    def do_persist(self, words: list[str]) -> None:
        host = self.hosts[int(words[0])]
        count = next((int(word[6:]) for word in words if word.startswith("count=")), None)
        assert host.flying, f"node {host.nid} writes nothing"
        host.persist(self.now, count or len(host.flying))
        self.after(host)

    def do_stall(self, words: list[str]) -> None:
        self.stalled.append(self.hosts[int(words[0])])

    def do_settle(self, words: list[str]) -> None:
        self.is_quiet = True
        end = self.now + int(words[0]) * MS if words else self.now
        self._settle()
        while self.now < end:
            deadlines = [host.core.deadline for host in self.up() if host.core is not None]
            self.now = min(end, max(self.now, min(deadlines)))
            self.do_tick(["0"])
            self._settle()
        self.is_quiet = False

    def _settle(self) -> None:
        for _ in range(500):
            if self.net:
                self.do_deliver([">", "count=1"])
            elif writing := [
                each for each in self.up() if each.flying and each not in self.stalled
            ]:
                for host in writing:
                    self.do_persist([str(host.nid)])
            elif self.installs:
                self.do_install(["any"])
            else:
                return
        raise AssertionError(f"they talk without end: {[describe(m) for _, _, m in self.net]}")

    def do_propose(self, words: list[str]) -> None:
        host = self.hosts[int(words[0])]
        assert host.core is not None
        for name in words[1:]:
            text, _, size = name.partition("*")
            payload = text.encode().ljust(int(size or 0), b".")
            host.core.propose(self.now, payload, self.token(text))
        self.after(host)

    def do_seal(self, words: list[str]) -> None:
        host = self.hosts[int(words[0])]
        assert host.core is not None
        host.core.seal(self.now, words[1].encode(), self.token(words[1]))
        self.after(host)

    def do_read(self, words: list[str]) -> None:
        host = self.hosts[int(words[0])]
        assert host.core is not None
        for name in words[1:]:
            host.core.read(self.now, self.token(name))
        self.after(host)

    def do_transfer(self, words: list[str]) -> None:
        host = self.hosts[int(words[0])]
        assert host.core is not None
        host.core.transfer(self.now, int(words[1]))
        self.after(host)

    def do_gone(self, words: list[str]) -> None:
        host = self.hosts[int(words[0])]
        assert host.core is not None
        host.core.gone(self.now, int(words[1]))
        self.after(host)

    def do_space(self, words: list[str]) -> None:
        host = self.hosts[int(words[0])]
        assert host.core is not None
        host.core.space(words[1] == "free")
        self.after(host)

    def do_snapshot(self, words: list[str]) -> None:
        host = self.hosts[int(words[0])]
        snap = host.snapshot()
        assert snap is not None, "nothing new to take a snapshot of"
        self.snaps[snap.index] = snap
        self.after(host)

    def do_install(self, words: list[str]) -> None:
        src, dst, index = self._installing(words)
        host, sender = self.hosts[dst], self.hosts[src]
        assert host.core is not None
        host.snapshots[index] = sender.snapshots[index]
        host.core.snapshot_staged(self.now, src, host.core.status.ballot, self.snaps[index])
        self.after(host)
        if sender.core is not None:
            sender.core.snapshot_sent(self.now, dst, index, True)
            self.after(sender)

    def do_lost(self, words: list[str]) -> None:
        src, dst, index = self._installing(words)
        sender = self.hosts[src]
        assert sender.core is not None
        sender.core.snapshot_sent(self.now, dst, index, False)
        self.after(sender)

    def _installing(self, words: list[str]) -> tuple[int, int, int]:
        if words == ["any"]:
            return self.installs.pop(0)
        src, dst = (int(word) for word in words[0].split(">"))
        for position, each in enumerate(self.installs):
            if each[:2] == (src, dst):
                return self.installs.pop(position)
        index = max(self.hosts[src].snapshots)  # one from before, come late
        if len(words) > 1:
            index = int(words[1])
        return src, dst, index

    def do_crash(self, words: list[str]) -> None:
        host = self.hosts[int(words[0])]
        kept = next((int(word[5:]) for word in words if word.startswith("keep=")), 0)
        host.crash(kept)

    def do_restart(self, words: list[str]) -> None:
        host = self.hosts[int(words[0])]
        options = dict(word.split("=") for word in words[1:])
        disk = host.disk
        if "rotten" in options:
            disk.rotten |= {int(index) for index in options["rotten"].split(",")}
        if "forgets" in options:
            del disk.entries[int(options["forgets"]) - disk.first :]
            lost = Ballot(EPOCH, 0, 0)
            disk.hard = Hard(lost, lost, min(disk.hard.commit, disk.last), suspect=True)
        if "loses" in options:
            del disk.entries[int(options["loses"]) - disk.first :]
        host.boot(self.now)
        self.after(host)

    def do_log(self, words: list[str]) -> None:
        for host in self.up(words):
            assert host.core is not None
            first = max(host.disk.snap.index, host.disk.first - 1) + 1
            found = host.core.entries(first, host.core.status.last)
            self.say(f"{host.nid}: {entries(found)}")

    def do_status(self, words: list[str]) -> None:
        for host in self.up(words):
            assert host.core is not None
            self.say(f"{host.nid}: {describe_status(host.core.status)}")


def _steady(value: float) -> Callable[[], float]:
    return lambda: value


def play(text: str, engine: str) -> list[tuple[str, str]]:
    """Run a script: its parts, each with what it printed."""
    stage = Stage(engine)
    return [
        (part, stage.run(command) if command else "") for part, command, _ in parts_of(text, engine)
    ]


def parts_of(text: str, engine: str) -> list[tuple[str, str, str]]:
    """Cut a script at its blank lines: whole part, its commands, what is expected of the engine."""
    parts: list[tuple[str, str, str]] = []
    for part in text.strip().split("\n\n"):
        head, *sections = part.split("\n----")
        lines = [line for line in head.splitlines() if not line.startswith("#")]
        expected = ""
        for section in sections:
            name, _, body = section.partition("\n")
            if name.strip() in ("", engine):
                expected = body
        parts.append((part, "\n".join(lines), expected))
    return parts


def rewrite(path: Path) -> None:
    """Put what the engines say today into a script."""
    engines = ("raft", "paxos") if path.parent.name == "both" else (path.parent.name,)
    text = path.read_text()
    played = [play(text, engine) for engine in engines]
    parts: list[str] = []
    for position, (part, _) in enumerate(played[0]):
        head = part.split("\n----")[0]
        outputs = [each[position][1] for each in played]
        if not any(line and not line.startswith("#") for line in head.splitlines()):
            parts.append(head)
        elif len(set(outputs)) == 1:
            parts.append(f"{head}\n----\n{outputs[0]}")
        else:
            told = zip(engines, outputs, strict=True)
            parts.append("\n".join([head, *(f"---- {name}\n{out}" for name, out in told)]))
    path.write_text("\n\n".join(parts) + "\n")


def main() -> None:
    names = [Path(name) for name in sys.argv[1:] if name != "--rewrite"]
    for path in names or sorted(SCRIPTS.glob("*/*.txt")):
        if "--rewrite" in sys.argv:
            try:
                rewrite(path)
            except Exception as error:
                error.add_note(str(path))
                traceback.print_exception(error, limit=-1)
        else:
            print(path.read_text())


if __name__ == "__main__":
    main()
