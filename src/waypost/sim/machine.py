"""One machine: a clock, a disk, an inbox, and the process that runs on it, when one does.

Hands what comes in to the process in the order in which it came, at the machine's own time, and
sees to the disk: one sync under way, and what is handed out meanwhile goes with the next.

Always true: a process that ended hears nothing any more; an answer of the disk that was meant for
an earlier process is thrown away.
"""

from collections.abc import Callable
from random import Random

from waypost.catalog.state import Catalog
from waypost.consensus.core import FOREVER, Index, Nid, Ns, Snap, Write
from waypost.consensus.epoch import Peer
from waypost.consensus.settings import Settings
from waypost.errors import CorruptData
from waypost.replica.member import MakeCore, MemberStatus
from waypost.replica.peer_messages import PeerMessage, decode_message, encode_message
from waypost.sim.around import Around
from waypost.sim.clocks import Clock
from waypost.sim.drive import MemoryDrive, WalDrive
from waypost.sim.marks import Marks
from waypost.sim.messages import Letter, Parcel, Receipt, Reply, Request
from waypost.sim.oracle import Oracle
from waypost.sim.plan import MS, Setting
from waypost.sim.process import Process
from waypost.sim.snapshots import Snapshots

CLUSTER = 0x5EED
CALM_SYNC: Ns = 10 * MS
_DRIFT_SHARE = 20
"""Two clocks disagree by less than one part in so many."""

CoreMaker = Callable[[Nid, Settings, Callable[[], float], Callable[[], Ns]], MakeCore]
"""Of a node, its settings, its chance and its clock: what makes its cores."""


class Machine:
    """See the module."""

    def __init__(
        self,
        number: int,
        setting: Setting,
        rng: Random,
        around: Around,
        oracle: Oracle,
        marks: Marks,
        settings: Settings,
        maker: CoreMaker,
    ) -> None:
        self.number = number
        self.name = f"m{number}"
        self.peer = self.peer_of(number)
        self.clock = Clock(setting.offset[number], setting.drift_ppm[number])
        self.nid: Nid = 0
        self.process: Process | None = None
        self.is_paused = False
        self.is_gone = False
        """It was removed, and is not started any more."""
        self.stalled_until: Ns = 0
        self.is_sync_to_fail = False
        self.drive: MemoryDrive
        self._setting = setting
        self._rng = rng
        self._around = around
        self._oracle = oracle
        self._marks = marks
        self._maker = maker
        self._settings = settings
        self._lag = setting.lag[number]
        self._sync_min, self._sync_max = setting.sync_min, setting.sync_max
        self._inbox: list[Letter | Parcel | Receipt | Request] = []
        self._life = 0  # of its processes
        self._under_way = 0  # writes that the disk works on
        self._snapshots = Snapshots(self, around, marks, keeps_tail=setting.keeps_tail)
        self._timer: Ns = FOREVER
        self._wakes = False  # a look into the inbox is planned

    @staticmethod
    def peer_of(number: int) -> Peer:
        """How a machine is called, and where the others reach it."""
        return Peer(f"m{number}", f"m{number}:8300")

    @property
    def is_up(self) -> bool:
        """Whether a process runs, paused or not."""
        return self.process is not None

    # Starting and ending

    def become(self, nid: Nid) -> None:
        """Be a node that nobody knew: an empty disk, with an id of its own."""
        self.nid = nid
        choose = self._rng.randrange
        if self._setting.real_wal:
            self.drive = WalDrive(choose, cluster=CLUSTER, node=nid)
        else:
            self.drive = MemoryDrive(choose)

    def start(self) -> bool:
        """Start a process on what the disk holds; False if nothing can be started from that."""
        assert self.process is None, f"{self.name} runs"
        now = self._around.now
        try:
            boot = self.drive.boot()
        except CorruptData as error:
            self._marks.hit("disk refused at start")
            self._around.story(f"{self.name} does not start: {error}")
            return False
        self._life += 1
        self._marks.hit("start")
        drive = self.drive
        life = self._oracle.starts(self.nid, drive.durable, drive.newest, boot.snap.index)
        self._oracle.is_snapshot(self.nid, boot.snap)
        self.process = Process(
            self.nid,
            self,
            self._oracle,
            self._marks,
            boot=boot,
            life=life,
            catalog=self.load(boot.snap.index),
            now=self.clock.read(now),
            lineage=CLUSTER,
            make_core=self._maker(
                self.nid,
                self._settings,
                self._rng.random,
                lambda: self.clock.read(self._around.now),
            ),
            draw=self._rng.random,
            settings=self._settings,
            snapshot_every=self._setting.snapshot_every,
        )
        self.settle()
        return True

    def end(self, *, power: bool) -> None:
        """The process ends at once; the power goes with it, or stays."""
        if self.process is None:
            return
        self._marks.hit("power lost" if power else "process killed")
        if self._under_way:
            self._marks.hit("ended while writing")
        self.drive.crash(self._under_way, power=power)
        self.process = None
        self._inbox.clear()
        self._under_way = 0
        self._timer = FOREVER
        self._wakes = self.is_paused = False
        if not power:
            self._around.ended(self)

    # What comes in

    def receive(self, now: Ns, parcel: Letter | Parcel | Receipt | Request) -> None:
        """Something arrived."""
        process = self.process
        if process is None:
            return
        if not isinstance(parcel, Request) and parcel.target != self.nid:
            self._marks.hit("letter to a node that is no more")
            return
        if self.is_paused:
            self._inbox.append(parcel)
        elif self._lag:
            self._inbox.append(parcel)
            self._wake_later(now)
        else:
            self._take(now, process, parcel)
            self.settle()

    def _wake_later(self, now: Ns) -> None:
        if not self._wakes:
            self._wakes = True
            life = self._life

            def wake(at: Ns) -> None:
                if self._life == life and self.process is not None:
                    self._wakes = False
                    if not self.is_paused:
                        self.wake(at)

            self._around.call(now + self._lag, wake)

    def wake(self, now: Ns) -> None:
        """Look into the inbox, then at the clock (D6)."""
        process = self.process
        if process is None:
            return
        inbox, self._inbox = self._inbox, []
        for parcel in inbox:
            self._take(now, process, parcel)
        process.tick(self.clock.read(now))
        self.settle()

    def _take(self, now: Ns, process: Process, parcel: Letter | Parcel | Receipt | Request) -> None:
        local = self.clock.read(now)
        match parcel:
            case Letter(source, _, message):
                if self._setting.encodes:
                    message = decode_message(encode_message(message))
                process.at(local).receive(local, source, message)
            case Request():
                process.request(local, parcel)
            case Parcel():
                self._snapshots.stage(parcel)
            case Receipt(source, _, index):
                process.at(local).snapshot_sent(local, source, index, ok=True)

    def tick(self, now: Ns) -> None:
        """A timer went off."""
        process = self.process
        if now < self._timer:
            return
        self._timer = FOREVER
        if process is None or self.is_paused:
            return
        if self._inbox:
            self.wake(now)
            return
        process.tick(self.clock.read(now))
        self.settle()

    def pause(self) -> None:
        """Stand still."""
        self.is_paused = True

    def resume(self, now: Ns) -> None:
        """Go on: the inbox first."""
        if self.is_paused:
            self.is_paused = False
            self.wake(now)

    def clock_changed(self) -> None:
        """Timers are set anew."""
        if self.process is not None and not self.is_paused:
            self._set_timer()

    def space(self, ok: bool) -> None:
        """The disk is full, or is not any more."""
        if self.process is not None:
            self.process.member.space(ok)
            if not self.is_paused:
                self.settle()

    def meet(self, now: Ns, nid: Nid, *, is_gone: bool = False) -> None:
        """A connection to another node is there; or refused, and its process gone, as it seems."""
        if self.process is not None and not self.is_paused:
            local = self.clock.read(now)
            member = self.process.at(local)
            (member.gone if is_gone else member.met)(local, nid)
            self.settle()

    def settle(self) -> None:
        """Let the process do what is to be done now, and set the timer."""
        process = self.process
        assert process is not None
        process.run()
        self._set_timer()
        if process.is_retired:
            self._marks.hit("removed node ended")
            self._around.retired(self)

    def _set_timer(self) -> None:
        process = self.process
        if process is None:
            return
        at = self.clock.when(process.member.deadline)
        if at < self._timer:
            self._timer = at = max(at, self._around.now)
            self._around.call(at, self.tick)

    # The disk

    def submit(self, write: Write) -> None:
        """Take a write of the process."""
        process = self.process
        assert process is not None
        self._oracle.writes(process.life, write)
        self.drive.pending.append(write)
        self._sync_later()

    def _sync_later(self) -> None:
        if self._under_way or not self.drive.wants_sync:
            return
        self._under_way = len(self.drive.pending)
        now = self._around.now
        took = self._sync_min + int(self._rng.random() * (self._sync_max - self._sync_min))
        done = max(now + took, self.stalled_until)
        life = self._life
        self._around.call(done, lambda at: self._synced(at, life))

    def _synced(self, now: Ns, life: int) -> None:
        process = self.process
        if process is None or life != self._life:
            return
        if now < self.stalled_until:
            self._around.call(self.stalled_until, lambda at: self._synced(at, life))
            return
        if self.is_sync_to_fail:
            self.is_sync_to_fail = False
            self._marks.hit("sync failed")
            self._around.story(f"a sync of {self.name} failed, and the process ends")
            self.drive.fail_sync(self._under_way)
            self.end(power=False)
            return
        seq = self.drive.sync(self._under_way)
        self._oracle.synced(self.nid)
        self._under_way = 0
        # The disk works on while a process stands still; that hears of it afterwards.
        self._sync_later()
        self._when_awake(now, life, lambda at: self._persisted(at, seq))

    def _when_awake(self, now: Ns, life: int, what: Callable[[Ns], None]) -> None:
        if self.process is None or life != self._life:
            return
        if self.is_paused:
            self._around.call(now + 1_000_000, lambda at: self._when_awake(at, life, what))
        else:
            what(now)

    def _persisted(self, now: Ns, seq: int) -> None:
        process = self.process
        assert process is not None
        local = self.clock.read(now)
        process.at(local).persisted(local, seq)
        self.settle()

    def calm(self) -> None:
        """The disk is as good as disks are."""
        self.stalled_until = 0
        self.is_sync_to_fail = False
        self._sync_max = min(self._sync_max, CALM_SYNC)

    def later(self, at: Ns, what: Callable[[Ns, Process], None]) -> None:
        """Do something with the process that runs now, once it is awake; not with a later one."""
        life = self._life

        def do(now: Ns) -> None:
            assert self.process is not None
            what(now, self.process)
            self.settle()

        self._around.call(at, lambda now: self._when_awake(now, life, do))

    def written_at(self, *, syncs: int) -> Ns:
        """When the disk has done something beside the log that takes it so many syncs."""
        return max(self._around.now + syncs * self._sync_max, self.stalled_until)

    # Snapshots

    def load(self, index: Index) -> Catalog:
        """Read a snapshot back."""
        return self._snapshots.load(index)

    def take_snapshot(self, snap: Snap, data: bytes) -> None:
        """Write one beside the log."""
        self._snapshots.take(snap, data)

    def send_snapshot(self, target: Nid, index: Index) -> None:
        """Send the newest one, which stands for at least ``index``."""
        self._snapshots.send(target, index)

    # What it says

    def claim_freshness(self) -> None:
        """Hold the process to what it says of how old its state is."""
        process = self.process
        if process is None or self.is_paused:
            return
        fresh = process.member.status.fresh
        if 0 < fresh < FOREVER:
            moment = self.clock.showed(fresh)
            # The age of a leader's confirmation is measured by that leader's clock.
            moment -= (self._around.now - moment) // _DRIFT_SHARE
            self._oracle.is_fresh(self.nid, process.applied, moment)

    # What else the process asks of its machine

    def send(self, target: Nid, message: PeerMessage) -> None:
        """Send to another node."""
        self._around.post(self.number, target, Letter(self.nid, target, message))

    def reply(self, reply: Reply) -> None:
        """Answer a client."""
        self._around.answer(self.number, reply)

    def world_now(self) -> Ns:
        """The time of the world."""
        return self._around.now

    def observe(self, status: MemberStatus) -> None:
        """Tell the world of a change."""
        self._around.told(self, status)
