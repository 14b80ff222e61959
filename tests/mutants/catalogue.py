"""The mutants: known bugs of consensus systems, put back into this one.

``row`` is the number of the bug in the catalogue that the scripts are named after, or the guarantee
(G: of a core, D: of a driver, E: of epochs) that it breaks.
"""

import msgspec


class Mutant(msgspec.Struct, frozen=True):
    """One change of one function."""

    row: str
    name: str
    """What the code does with it."""
    module: str
    find: str
    put: str
    killers: tuple[str, ...] = ()
    """What it is set against, if not everything that runs cores, cheapest first."""


_C = "waypost.consensus."
_R = "waypost.replica."

MUTANTS: tuple[Mutant, ...] = (
    # Commit and log
    Mutant(
        "1",
        "raft-commits-old-terms-by-counting",
        _C + "leader",
        "return index if index >= self._counts_from else 0",
        "return index",
    ),
    Mutant(
        "2",
        "an-old-append-cuts-the-log",
        _C + "merging",
        "    if first > end:\n        return end\n",
        "    if first > end:\n        if end < log.last and end > site.commit:\n"
        "            log.truncate(end + 1)\n            site.journal.rewrite(end + 1)\n"
        "        return end\n",
        ("walk",),
    ),
    Mutant(
        "3",
        "a-compacted-entry-is-looked-at-again",
        _C + "merging",
        "range(max(first, min(site.commit, log.first_fault - 1) + 1), end)",
        "range(first, end)",
        ("walk",),
    ),
    Mutant(
        "4",
        "raft-follower-commits-past-what-is-verified",
        _C + "raft",
        "self._learn_commit(min(message.commit, follower.verified))",
        "self._learn_commit(min(message.commit, site.log.last))",
    ),
    Mutant(
        "4",
        "paxos-acceptor-decides-past-what-is-verified",
        _C + "paxos",
        "self._learn_commit(min(message.commit, follower.verified))",
        "self._learn_commit(min(message.commit, site.log.last))",
    ),
    Mutant(
        "5",
        "a-commit-index-goes-back",
        _C + "roles",
        "        if index <= site.commit:\n            return\n",
        "        if index == site.commit:\n            return\n",
    ),
    Mutant(
        "6",
        "acks-of-other-ballots-count",
        _C + "roles",
        "if message.ballot == leader.ballot:\n            if leader.on_ack(src, message):",
        "if message.ok or message.ballot == leader.ballot:\n"
        "            if leader.on_ack(src, message):",
    ),
    Mutant(
        "6",
        "a-match-goes-back",
        _C + "progress",
        "self.match = max(self.match, match)\n        window",
        "self.match = match\n        window",
    ),
    Mutant(
        "7",
        "half-is-a-majority",
        _C + "quorum",
        "return members // 2 + 1",
        "return (members + 1) // 2",
        ("walk",),
    ),
    Mutant(
        "7",
        "the-best-one-stands-for-the-quorum",
        _C + "quorum",
        "return sorted(values, reverse=True)[quorum - 1]",
        "return sorted(values, reverse=True)[max(0, quorum - 2)]",
    ),
    Mutant(
        "8",
        "an-ack-before-the-fsync",
        _C + "follower",
        "return min(self.verified, self._site.durable) if self.is_synchronised else 0",
        "return self.verified if self.is_synchronised else 0",
    ),
    Mutant(
        "8",
        "a-leader-counts-what-it-has-not-synced",
        _C + "leader",
        "matches.append(site.durable if site.journal.hard_is_durable else 0)",
        "matches.append(site.log.last)",
    ),
    Mutant(
        "9",
        "a-promise-before-the-fsync",
        _C + "journal",
        "self._held.append((self.seq + 1 if self._is_due else self.seq, dst, message))",
        "self._held.append((0, dst, message))",
    ),
    Mutant(
        "10",
        "an-fsync-of-what-was-replaced-counts",
        _C + "journal",
        "self._flying = deque((seq, min(last, index - 1), at) for seq, last, at in self._flying)",
        "pass",
    ),
    Mutant(
        "12",
        "a-snapshot-keeps-a-conflicting-log",
        _C + "site",
        "        if is_same:\n            if snap.index",
        "        if is_same or snap.index <= log.last:\n            if snap.index",
    ),
    Mutant(
        "13",
        "an-older-snapshot-is-installed",
        _C + "site",
        "        if snap.index <= self.visible:\n            return False\n",
        "",
    ),
    Mutant(
        "16",
        "a-refusal-without-a-hint-by-term",
        _C + "log",
        "return self.base + bisect_right("
        "self._entries, ballot, hi=upto - self.base, key=_ballot_of)",
        "return upto - 1",
    ),
    # Elections
    Mutant(
        "17",
        "raft-votes-twice-in-a-term",
        _C + "raft",
        "is_free = ballot.round > current_term or voted_for in (0, src)",
        "is_free = ballot.round >= current_term",
    ),
    Mutant(
        "17",
        "raft-forgets-its-vote-when-it-hears-a-leader",
        _C + "raft",
        "if message.ballot.round > site.journal.promised.round:\n"
        "            site.journal.promise(message.ballot)",
        "if message.ballot.round > site.journal.promised.round:\n"
        "            site.journal.promised = Ballot(message.ballot.epoch, message.ballot.round, 0)",
    ),
    Mutant(
        "18",
        "a-promise-counts-as-often-as-it-comes",
        _C + "campaign",
        "self.promises.setdefault(src, promise)",
        "self.promises[src + 1_000_000 * len(self.promises)] = promise",
    ),
    Mutant(
        "18",
        "raft-elects-whoever-asks-with-a-short-log",
        _C + "raft",
        "return (candidate.accepted, candidate.last) >= self._credentials()",
        "return True",
    ),
    Mutant(
        "18",
        "raft-compares-logs-by-length-only",
        _C + "raft",
        "return (candidate.accepted, candidate.last) >= self._credentials()",
        "return candidate.last >= self._credentials()[1]",
    ),
    Mutant(
        "19",
        "a-repeated-request-is-refused",
        _C + "raft",
        "voted_for in (0, src)",
        "voted_for == 0",
    ),
    Mutant(
        "20",
        "a-higher-ballot-is-ignored-by-the-leader",
        _C + "roles",
        "            self._site.hear_of(message.ballot)\n            self._step_down(soon=True)",
        "            self._site.hear_of(message.ballot)",
    ),
    Mutant(
        "22",
        "pre-votes-are-promises",
        _C + "raft",
        "        if message.pre:\n            self._site.send("
        "src, self._vote(ballot, pre=True, grants=grants))\n            return\n",
        "        if message.pre:\n            self._site.send("
        "src, self._vote(ballot, pre=True, grants=grants))\n",
    ),
    Mutant(
        "23",
        "loyalty-overrules-a-handover",
        _C + "raft",
        "(message.force or not self._is_loyal_against(src))",
        "(not self._is_loyal_against(src))",
    ),
    Mutant(
        "24",
        "voters-are-not-loyal",
        _C + "roles",
        "and site.now - follower.heard < site.patience.limit",
        "and site.now - follower.heard < 0",
    ),
    Mutant(
        "25",
        "a-leader-without-a-majority-stays",
        _C + "leader",
        "if now - self.heard > site.patience.limit * 3 // 2:  # CheckQuorum",
        "if now < 0:  # CheckQuorum",
    ),
    Mutant(
        "27",
        "a-promise-to-another-ballot-counts",
        _C + "campaign",
        "if promise.ballot != self.ballot or promise.pre != self.is_pre or not promise.ok:",
        "if not promise.ok:",
    ),
    Mutant(
        "28",
        "a-candidate-asks-before-its-own-promise-is-durable",
        _C + "roles",
        "                journal.hold(nid, message)",
        "                site.send(nid, message)",
    ),
    Mutant(
        "28",
        "a-candidate-counts-itself-before-the-fsync",
        _C + "roles",
        "own = 1 if campaign.is_pre or site.journal.hard_is_durable else 0",
        "own = 1",
    ),
    Mutant(
        "29",
        "paxos-does-not-trim-when-it-synchronises",
        _C + "paxos",
        "        self._trim(follower.verified)\n        self._site.journal.accept",
        "        self._site.journal.accept",
    ),
    Mutant(
        "29",
        "paxos-synchronises-before-the-base",
        _C + "paxos",
        "if not follower.is_synchronised and follower.verified >= message.base:",
        "if not follower.is_synchronised:",
    ),
    Mutant(
        "29",
        "paxos-acknowledges-before-it-is-synchronised",
        _C + "paxos",
        "follower.is_synchronised = site.journal.accepted == message.ballot",
        "follower.is_synchronised = True",
    ),
    Mutant(
        "29",
        "paxos-adopts-the-longest-log",
        _C + "paxos",
        "if (accepted, last) <= (message.accepted, message.last) or last < first:",
        "if last <= message.last or last < first:",
        ("walk",),
    ),
    Mutant(
        "29",
        "paxos-adopts-its-own-log-whatever-it-hears",
        _C + "paxos",
        "if not promise.withheld and (promise.accepted, promise.last) > best:",
        "if False and (promise.accepted, promise.last) > best:",
    ),
    Mutant(
        "30",
        "a-leader-with-a-stalled-disk-stays",
        _C + "leader",
        "if stalled > 2 * election:",
        "if stalled > 2000 * election:",
    ),
    Mutant(
        "31",
        "a-paused-node-stands-at-once",
        _C + "roles",
        "                self._election_at = max(self._election_at, now + wait)",
        "                pass",
    ),
    Mutant(
        "32",
        "a-voter-votes-right-after-its-restart",
        _C + "roles",
        "self._quiet_until: Ns = now + election if settings.leases else 0",
        "self._quiet_until: Ns = 0",
    ),
    # Reads and leases
    Mutant(
        "33",
        "a-read-below-the-barrier",
        _C + "reads",
        "if not waiting or waiting[0][0] > self.confirmed or commit < barrier:",
        "if not waiting or waiting[0][0] > self.confirmed:",
    ),
    Mutant(
        "34",
        "a-read-is-confirmed-by-the-round-under-way",
        _C + "reads",
        "self._waiting.append((self.newest + 1, asker, token, index))",
        "self._waiting.append((self.newest, asker, token, index))",
    ),
    Mutant(
        "34",
        "a-read-is-confirmed-by-one-answer",
        _C + "leader",
        "round_ = reached(acked, site.quorum)",
        "round_ = reached(acked, 1)",
    ),
    Mutant(
        "36",
        "a-read-without-a-leader-is-forgotten",
        _C + "follower",
        "        else:\n            site.reads_failed.append(token)\n",
        "",
    ),
    Mutant(
        "38",
        "a-lease-counts-from-its-confirmation",
        _C + "leader",
        "return rounds.confirmed_at + site.settings.election * 9 // 10",
        "return site.now + site.settings.election * 9 // 10",
    ),
    Mutant(
        "39",
        "a-lease-is-kept-during-a-handover",
        _C + "leader",
        "        self._may_lease = False\n        self.target",
        "        self.target",
    ),
    Mutant(
        "37",
        "a-sealed-leader-lets-reads-wait",
        _C + "leader",
        "if site.sealed or len(self._rounds) >= site.settings.reads_max:",
        "if len(self._rounds) >= site.settings.reads_max:",
    ),
    Mutant(
        "37",
        "a-sealed-leader-serves-reads",
        _C + "leader",
        "        if site.sealed or len(self._rounds) >= site.settings.reads_max:\n"
        "            self._answer(asker, token, ok=False)\n"
        "        elif site.now < self.lease_until:\n"
        "            self._answer(asker, token, ok=True, index=index)\n"
        "        else:\n"
        "            self._rounds.read(asker, token, index)\n"
        "\n"
        "    def on_read(self, src: Nid, message: Read) -> None:\n"
        '        """A follower asks."""\n'
        "        self.read(src, message.number)\n"
        "\n"
        "    def serve(self) -> None:\n"
        '        """Answer the reads that are confirmed."""\n'
        "        if self._site.sealed:\n"
        "            self.fail_reads()\n"
        "            return\n",
        "        if len(self._rounds) >= site.settings.reads_max:\n"
        "            self._answer(asker, token, ok=False)\n"
        "        elif site.now < self.lease_until:\n"
        "            self._answer(asker, token, ok=True, index=index)\n"
        "        else:\n"
        "            self._rounds.read(asker, token, index)\n"
        "\n"
        "    def on_read(self, src: Nid, message: Read) -> None:\n"
        '        """A follower asks."""\n'
        "        self.read(src, message.number)\n"
        "\n"
        "    def serve(self) -> None:\n"
        '        """Answer the reads that are confirmed."""\n',
    ),
    # Disks
    Mutant(
        "33",
        "a-read-at-the-commit-index-of-a-new-leader",
        _C + "reads",
        "confirmed.append((asker, token, max(index, barrier)))",
        "confirmed.append((asker, token, index))",
    ),
    Mutant(
        "34",
        "questions-are-numbered-from-zero",
        _C + "follower",
        "self.questions = Questions(int(site.draw() * (1 << 52)))",
        "self.questions = Questions(0)",
        ("walk",),
    ),
    Mutant(
        "37",
        "a-leader-answers-reads-without-a-round",
        _C + "leader",
        "            self._rounds.read(asker, token, index)",
        "            self._answer(asker, token, ok=True, index=index)",
    ),
    Mutant(
        "38",
        "an-echo-of-another-life-tells-the-time",
        _C + "site",
        "return moment if self._started <= moment <= self.now else 0",
        "return moment",
        ("walk",),
    ),
    Mutant(
        "50",
        "one-answer-tells-what-was-forgotten",
        _C + "healing",
        "if len(self._answers) < len(self._site.others):",
        "if not self._answers:",
    ),
    Mutant(
        "G1",
        "an-ack-before-its-promise-is-durable",
        _C + "follower",
        "            and site.journal.hard_is_durable\n",
        "",
    ),
    Mutant(
        "47",
        "a-suspect-disk-votes",
        _C + "roles",
        "return not self._site.journal.suspect and self._site.now >= self._quiet_until",
        "return self._site.now >= self._quiet_until",
    ),
    Mutant(
        "47",
        "a-suspect-disk-acknowledges",
        _C + "follower",
        "is_voter = not site.journal.suspect",
        "is_voter = True",
    ),
    Mutant(
        "50",
        "a-log-shorter-than-its-commit-is-believed",
        _C + "site",
        "            self.journal.distrust()\n",
        "            pass\n",
    ),
    Mutant(
        "52",
        "a-rotten-entry-is-acknowledged",
        _C + "site",
        "durable = min(self.journal.durable, self.log.first_fault - 1)",
        "durable = self.journal.durable",
    ),
    # Clients
    Mutant(
        "58",
        "a-deposed-leader-calls-its-proposals-lost",
        _C + "answers",
        'self.done += [Done(token, "unknown", 0, leader) for _, _, token in self._orphans]',
        'self.done += [Done(token, "lost", 0, leader) for _, _, token in self._orphans]',
    ),
    Mutant(
        "59",
        "a-refusal-moves-the-match-back",
        _C + "leader",
        "peer.match = max(peer.match, ack.match)",
        "peer.match = ack.match",
    ),
    Mutant(
        "57",
        "a-write-that-comes-again-is-done-again",
        "waypost.catalog.origins",
        "if seq in seqs:",
        "if seq < 0:",
        ("tests/catalog/test_origins.py",),
    ),
    # Silence
    Mutant(
        "31",
        "a-leader-that-ended-is-waited-for",
        _C + "roles",
        "if self._leader is not None or follower.leader != nid or site.settings.leases:",
        "if True:",
    ),
    Mutant(
        "31",
        "no-silence-is-remembered",
        _C + "patience",
        "BORNE * worst",
        "0",
    ),
    # The contract of a core, and the handover between cores
    Mutant(
        "G8",
        "a-leader-takes-whatever-comes",
        _C + "replicated",
        "and answers.uncommitted_bytes + size > site.settings.uncommitted_bytes_max",
        "and answers.uncommitted_bytes + size < 0",
    ),
    Mutant(
        "G9",
        "what-follows-a-seal-is-handed-out",
        _C + "site",
        "return min(self.commit, log.seal or FOREVER, log.first_fault - 1)",
        "return min(self.commit, log.first_fault - 1)",
    ),
    Mutant(
        "E4",
        "entries-after-the-seal-are-applied",
        _R + "held_log",
        "            return position + 1\n",
        "            return len(entries)\n",
        ("tests/replica/test_handover.py",),
    ),
    Mutant(
        "E7",
        "an-epoch-starts-on-a-log-that-is-long-enough",
        _R + "held_log",
        "return entry.ballot == epoch.seal_ballot and entry.kind == KIND_SEAL",
        "return True",
        ("tests/replica/test_handover.py",),
    ),
    Mutant(
        "E7",
        "an-epoch-starts-without-its-tail",
        _R + "held_log",
        "        if seal > self.last or any(index <= seal for index in self._faulty):\n"
        "            return False\n",
        "        if seal > self.last:\n            return True\n",
        ("tests/replica/test_handover.py",),
    ),
    Mutant(
        "E8",
        "an-epochs-messages-leave-before-its-start-is-durable",
        _R + "handover",
        "        self._outbox.close_gate()\n",
        "",
        ("tests/replica/test_handover.py",),
    ),
    Mutant(
        "E9",
        "a-first-leader-leads-again-after-a-restart",
        _R + "handover",
        "self._run_core(epoch, boot, may_lead_first=False)",
        "self._run_core(epoch, boot, may_lead_first=True)",
        ("member",),
    ),
    Mutant(
        "E9",
        "others-may-be-elected-in-the-first-ballot",
        _C + "site",
        "        self.journal = Journal(self.log, _in_epoch(boot.hard, epoch))\n",
        "        hard = _in_epoch(boot.hard, epoch)\n"
        "        if me != epoch.first_leader and hard.promised == epoch.first_ballot:\n"
        "            hard = Hard(hard.accepted, hard.accepted, hard.commit, hard.suspect)\n"
        "        self.journal = Journal(self.log, hard)\n",
    ),
    Mutant(
        "E11",
        "nobody-tells-of-the-new-epoch",
        _R + "member",
        "                self._pushing.begin(self._now)\n",
        "                pass\n",
        ("tests/replica/test_handover.py",),
    ),
    Mutant(
        "E12",
        "an-epoch-is-released-before-anything-of-it-is-committed",
        _R + "handover",
        "if self.handed >= epoch.first or epoch.first == 1:",
        "if True:",
        ("member",),
    ),
    Mutant(
        "E2",
        "an-epoch-forgets-those-before-it",
        _C + "epoch",
        "        epoch.members,\n        proposed.settings,\n",
        "        {},\n        proposed.settings,\n",
        ("tests/replica/test_handover.py",),
    ),
    Mutant(
        "E6",
        "messages-of-another-epoch-are-taken",
        _C + "replicated",
        "if message.ballot.epoch != site.epoch or src not in site.others:",
        "if src not in site.others:",
        ("tests/consensus/test_cores.py",),
    ),
    Mutant(
        "E10",
        "whoever-is-no-member-is-counted",
        _C + "replicated",
        "if message.ballot.epoch != site.epoch or src not in site.others:",
        "if message.ballot.epoch != site.epoch:",
        ("tests/consensus/test_cores.py",),
    ),
    Mutant(
        "D3",
        "an-fsync-that-was-not-made-is-reported",
        "waypost.storage.wal",
        "            if sync:\n                segments.sync()\n",
        "            if sync and False:\n                segments.sync()\n",
        ("tests/storage/test_wal.py",),
    ),
)
