"""Watchers see every change once and in order; slow ones see the latest state."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from waypost.catalog.history import History
from waypost.catalog.state import Catalog
from waypost.commands import Command, Deregister, LogBatch, Register
from waypost.model import Instance, Record
from waypost.node.watches import ALL, Burst, Watcher, Watches


class Reader:
    """Keeps what it is told, as a client's view would."""

    def __init__(self) -> None:
        self.is_slow = False
        self.view: dict[tuple[str, str], str] = {}
        self.revisions: list[int] = []
        self.told = 0

    def send_snapshot(self, revision: int, records: list[Record]) -> None:
        self.told += 1
        self.view = {(r.instance.service, r.instance.id): r.instance.version for r in records}
        self.revisions.append(revision)

    def send_burst(self, burst: Burst) -> None:
        self.told += 1
        for change in burst.changes:
            instance = change.record.instance
            if change.kind == "down":
                self.view.pop((instance.service, instance.id), None)
            else:
                self.view[instance.service, instance.id] = instance.version
        self.revisions.append(burst.revision)

    def send_bookmark(self, revision: int) -> None:
        self.revisions.append(revision)


class World:
    def __init__(self, history: History | None = None) -> None:
        self.catalog = Catalog(history)
        self.watches = Watches(self.catalog)

    def apply(self, *commands: Command) -> None:
        index = self.catalog.revision + 1
        applied = self.catalog.apply(index, LogBatch(index, [list(commands)]))
        self.watches.publish(index, applied.changed)

    def state(self, service: str) -> dict[tuple[str, str], str]:
        names = self.catalog.service_names() if service == ALL else [service]
        return {
            (name, r.instance.id): r.instance.version
            for name in names
            for r in (self.catalog.service(name) or {}).values()
        }


def register(service: str, n: int, version: str = "1") -> Register:
    return Register(Instance(service, f"i-{n}", "10.0.0.1", 8000 + n, version=version))


def test_a_watch_begins_with_everything() -> None:
    world, reader = World(), Reader()
    world.apply(register("orders", 1), register("orders", 2))

    world.watches.begin("orders", reader, 0, confirms=True)

    assert reader.view == world.state("orders")
    assert reader.revisions == [1]


def test_a_watch_that_resumes_is_told_only_what_it_missed() -> None:
    world, reader = World(), Reader()
    world.apply(register("orders", 1))
    world.apply(register("orders", 2))

    world.watches.begin("orders", reader, 1, confirms=True)

    assert reader.view == {("orders", "i-2"): "1"}
    assert reader.revisions == [2]


def test_a_watch_from_below_the_history_is_given_everything() -> None:
    world, reader = World(History(changes_max=1)), Reader()
    for n in range(5):
        world.apply(register("orders", n))

    world.watches.begin("orders", reader, 1, confirms=True)

    assert reader.view == world.state("orders")


def test_a_watch_from_a_revision_that_never_was_is_given_everything() -> None:
    world, reader = World(), Reader()
    world.apply(register("orders", 1))

    world.watches.begin("orders", reader, 999, confirms=True)

    assert reader.view == world.state("orders")
    assert reader.revisions == [1]


def test_nobody_is_told_of_a_service_that_it_does_not_watch() -> None:
    world, reader = World(), Reader()
    world.watches.begin("orders", reader, 0, confirms=True)

    world.apply(register("billing", 1))

    assert reader.told == 1  # the snapshot


def test_a_watch_of_all_sees_every_service() -> None:
    world, reader = World(), Reader()
    world.watches.begin(ALL, reader, 0, confirms=True)

    world.apply(register("orders", 1), register("billing", 1))

    assert reader.view == world.state(ALL)


def test_a_slow_reader_is_told_nothing_until_it_can_take_it_and_then_the_latest_at_once() -> None:
    world, reader = World(), Reader()
    watcher = world.watches.begin("orders", reader, 0, confirms=True)
    reader.is_slow = True
    for version in range(100):
        world.apply(register("orders", 1, str(version)))
    assert reader.told == 1

    reader.is_slow = False
    world.watches.catch_up(watcher)

    assert reader.told == 2
    assert reader.view == {("orders", "i-1"): "99"}


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("register"), st.sampled_from("ab"), st.integers(0, 3)),
            st.tuples(st.just("deregister"), st.sampled_from("ab"), st.integers(0, 3)),
            st.tuples(st.just("slow"), st.integers(0, 2), st.booleans()),
            st.tuples(st.just("begin"), st.sampled_from(["a", "b", ALL]), st.integers(0, 5)),
        ),
        max_size=60,
    ),
    st.integers(1, 10),
)
def test_whatever_happens_a_reader_that_keeps_up_holds_the_state(
    steps: list[tuple[str, object, object]], changes_max: int
) -> None:
    world = World(History(changes_max=changes_max))
    watching: list[tuple[Watcher, Reader]] = []
    for n, (step, which, how) in enumerate(steps):
        if step == "register":
            world.apply(register(str(which), int(str(how)), str(n)))
        elif step == "deregister":
            world.apply(Deregister(str(which), f"i-{how}"))
        elif step == "begin":
            reader = Reader()
            watching.append((world.watches.begin(str(which), reader, 0, confirms=True), reader))
        elif watching:
            watcher, reader = watching[int(str(which)) % len(watching)]
            reader.is_slow = bool(how)
            if not reader.is_slow:
                world.watches.catch_up(watcher)

    for watcher, reader in watching:
        reader.is_slow = False
        world.watches.catch_up(watcher)
        assert reader.view == world.state(watcher.service)
        assert reader.revisions == sorted(reader.revisions)


def test_a_drain_waits_until_every_watcher_has_confirmed() -> None:
    async def run() -> None:
        world, reader = World(), Reader()
        world.apply(register("orders", 1))
        first = world.watches.begin("orders", reader, 0, confirms=True)
        second = world.watches.begin(ALL, reader, 0, confirms=True)
        world.apply(register("orders", 1, "2"))

        drain = asyncio.ensure_future(world.watches.all_seen("orders", 2, 10))
        await asyncio.sleep(0)
        world.watches.confirmed(first, 2)
        await asyncio.sleep(0)
        assert not drain.done()
        world.watches.confirmed(second, 2)

        assert await drain == (2, 0)

    asyncio.run(run())


def test_a_drain_tells_how_many_had_not_confirmed_when_time_was_up() -> None:
    async def run() -> None:
        world, reader = World(), Reader()
        world.watches.begin("orders", reader, 0, confirms=True)
        world.apply(register("orders", 1))

        assert await world.watches.all_seen("orders", 1, 0.01) == (1, 1)

    asyncio.run(run())


def test_a_watcher_that_leaves_holds_up_no_drain() -> None:
    async def run() -> None:
        world, reader = World(), Reader()
        watcher = world.watches.begin("orders", reader, 0, confirms=True)
        world.apply(register("orders", 1))
        drain = asyncio.ensure_future(world.watches.all_seen("orders", 1, 10))
        await asyncio.sleep(0)

        world.watches.end(watcher)

        assert await drain == (1, 0)

    asyncio.run(run())


def test_a_watcher_that_names_a_revision_to_come_has_confirmed_nothing() -> None:
    async def run() -> None:
        world, reader = World(), Reader()
        world.apply(register("orders", 1))

        world.watches.begin("orders", reader, 1_000, confirms=True)
        world.apply(register("orders", 1, "2"))

        assert reader.revisions == [1, 2]
        assert await world.watches.all_seen("orders", 2, 0.01) == (1, 1)

    asyncio.run(run())


def test_a_reader_that_does_not_confirm_has_seen_what_it_was_given_when_it_caught_up() -> None:
    async def run() -> None:
        world, reader = World(), Reader()
        watcher = world.watches.begin("orders", reader, 0, confirms=False)
        reader.is_slow = True
        world.apply(register("orders", 1))
        drain = asyncio.ensure_future(world.watches.all_seen("orders", 1, 10))
        await asyncio.sleep(0)

        reader.is_slow = False
        world.watches.catch_up(watcher)

        assert await drain == (1, 0)

    asyncio.run(run())


def test_a_watch_of_a_quiet_service_resumes_though_the_history_has_moved_past_it() -> None:
    world, reader = World(History(changes_max=2)), Reader()
    world.apply(register("quiet", 1))
    for n in range(10):
        world.apply(register("busy", 1, str(n)))

    world.watches.begin("quiet", reader, 1, confirms=True)

    assert reader.told == 0
    assert reader.revisions == [11]


def test_a_watch_that_is_ahead_is_told_nothing_until_something_new_happens() -> None:
    async def run() -> None:
        world, reader = World(), Reader()
        world.apply(register("orders", 1))
        watcher = world.watches.begin("orders", reader, 3, confirms=True, may_be_ahead=True)
        assert reader.revisions == [3], "a bookmark: it is being watched"

        for version in ("2", "3", "4"):
            world.apply(register("orders", 1, version))

        assert reader.revisions == [3, 4]
        world.watches.bookmark()
        assert watcher.sent == 4

    asyncio.run(run())


def test_a_watch_that_is_ahead_is_not_taken_back_by_bookmarks_or_for_being_slow() -> None:
    async def run() -> None:
        world, reader = World(), Reader()
        world.apply(register("orders", 1))
        watcher = world.watches.begin("orders", reader, 3, confirms=True, may_be_ahead=True)

        world.watches.bookmark()
        reader.is_slow = True
        world.apply(register("orders", 1, "2"))
        reader.is_slow = False
        world.watches.catch_up(watcher)
        assert watcher.sent == 3

        for version in ("3", "4"):
            world.apply(register("orders", 1, version))
        assert reader.revisions == [3, 3, 4]

    asyncio.run(run())
