import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.client.records import change, record

from waypost.client.view import View
from waypost.model import Change, Record


def kinds(told: list[Change]) -> list[tuple[str, str]]:
    return [(one.kind, one.record.instance.id) for one in told]


def seen(*records: Record, revision: int = 5, cluster: str = "c1") -> View:
    view = View()
    view.replace(cluster, revision, list(records))
    return view


def test_a_first_snapshot_is_told_as_what_is_up_in_the_order_of_revisions() -> None:
    view = View()

    told = view.replace("c1", 5, [record("b", revision=4), record("a", revision=2)])

    assert kinds(told) == [("up", "a"), ("up", "b")]
    assert (view.revision, view.source) == (5, "follower")


def test_changes_are_told_as_they_come() -> None:
    view = seen(record("a"))
    slow = record("a", health="warning", revision=6)

    told = view.apply(7, [change(6, "changed", slow), change(7, "up", record("b", revision=7))])

    assert kinds(told) == [("changed", "a"), ("up", "b")]
    assert view.records["orders", "a"] is slow


def test_what_was_told_before_is_not_told_again() -> None:
    view = seen(record("a"), revision=5)

    assert view.apply(5, [change(4, "down", record("a")), change(5, "up", record("b"))]) == []
    assert set(view.records) == {("orders", "a")}


def test_several_changes_of_one_revision_are_all_told() -> None:
    view = seen()

    told = view.apply(6, [change(6, "up", record(name, revision=6)) for name in "abc"])

    assert kinds(told) == [("up", "a"), ("up", "b"), ("up", "c")]


def test_a_snapshot_after_a_gap_is_told_as_its_difference_with_what_went_last() -> None:
    view = seen(record("a"), record("b"), record("c"))

    told = view.replace(
        "c1", 9, [record("a"), record("b", port=81, revision=8), record("d", revision=7)]
    )

    assert kinds(told) == [("up", "d"), ("changed", "b"), ("down", "c")]
    assert [one.revision for one in told] == [7, 8, 9]
    assert told[-1].record.why == "no longer registered"


def test_a_snapshot_of_what_is_known_tells_nothing() -> None:
    view = seen(record("a", revision=2))

    assert view.replace("c1", 9, [record("a", revision=8)]) == []


def test_a_node_that_lags_behind_does_not_turn_back_time() -> None:
    view = seen(record("a"), record("b"), revision=9)

    told = view.replace("c1", 4, [record("a")])
    told += view.apply(6, [change(6, "up", record("b"))])
    told += view.apply(10, [change(10, "down", record("a"))])

    assert kinds(told) == [("down", "a")]
    assert (set(view.records), view.revision) == ({("orders", "b")}, 10)


def test_it_resumes_in_the_same_cluster_and_nowhere_else() -> None:
    view = seen(revision=7, cluster="c1")

    assert view.resume_at("c1") == 7
    assert view.resume_at("c2") == 0


def test_a_registry_that_lost_its_data_takes_nobody_down_at_once() -> None:
    view = seen(record("a"), record("b"), revision=100, cluster="c1")

    told = view.replace("c2", 1, [])

    assert told == []
    assert set(view.records) == {("orders", "a"), ("orders", "b")}


def test_who_returns_to_a_registry_that_lost_its_data_was_never_gone() -> None:
    view = seen(record("a"), record("b"), revision=100, cluster="c1")
    view.replace("c2", 1, [record("a", revision=1)])

    told = view.apply(2, [change(2, "up", record("b", revision=2))])
    told += view.lapse()

    assert told == []
    assert view.records["orders", "b"].revision == 2


def test_who_does_not_return_in_time_is_told_as_gone() -> None:
    view = seen(record("a"), record("b"), revision=100, cluster="c1")
    view.replace("c2", 1, [record("a")])

    assert kinds(view.lapse()) == [("down", "b")]
    assert view.lapse() == []


def test_who_returns_changed_is_told_as_changed() -> None:
    view = seen(record("a"), revision=100, cluster="c1")
    view.replace("c2", 1, [])

    told = view.apply(2, [change(2, "up", record("a", port=99, revision=2))])

    assert kinds(told) == [("changed", "a")]


def test_who_leaves_a_registry_that_lost_its_data_is_told_once() -> None:
    view = seen(record("a"), revision=100, cluster="c1")
    view.replace("c2", 1, [])

    told = view.apply(3, [change(2, "up", record("a")), change(3, "down", record("a"))])
    told += view.lapse()

    assert kinds(told) == [("down", "a")]


def test_what_is_on_disk_is_taken_only_while_nothing_is_known() -> None:
    view = View()

    assert kinds(view.load("c1", [record("a")], "disk")) == [("up", "a")]
    assert view.source == "disk"
    assert view.resume_at("c1") == 0
    assert view.load("c1", [record("b")], "disk") == []
    assert set(view.records) == {("orders", "a")}


def test_the_registry_corrects_what_was_on_disk() -> None:
    view = View()
    view.load("c1", [record("a"), record("b")], "disk")

    told = view.replace("c1", 3, [record("b", revision=1), record("c", revision=3)])

    assert kinds(told) == [("up", "c"), ("down", "a")]
    assert view.source == "follower"


def test_a_lost_watch_is_served_from_cache_and_what_is_on_disk_stays_that() -> None:
    live, stored, empty = seen(record("a")), View(), View()
    stored.load("c1", [record("a")], "disk")

    for view in (live, stored, empty):
        view.lost()

    assert (live.source, stored.source, empty.source) == ("cache", "disk", None)


class Registry:
    """What happens at a registry: a log of changes, from which any reader can be served."""

    def __init__(self, cluster: str) -> None:
        self.cluster = cluster
        self.log: list[Change] = []
        self.states: list[dict[str, Record]] = [{}]

    @property
    def revision(self) -> int:
        return len(self.log)

    def happen(self, instance_id: str, port: int) -> None:
        revision = self.revision + 1
        state = dict(self.states[-1])
        before = state.get(instance_id)
        if port == 0 and before is not None:
            del state[instance_id]
            self.log.append(change(revision, "down", before))
        else:
            after = record(instance_id, port=port + 1, revision=revision)
            state[instance_id] = after
            self.log.append(change(revision, "up" if before is None else "changed", after))
        self.states.append(state)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_the_connections_do_the_user_hears_a_true_story_once(data: st.DataObject) -> None:
    """What the user makes of nothing but what it was told is the registry's state in the end."""
    registry = Registry("c1")
    view = View()
    users: dict[str, Record] = {}
    last_heard = 0

    def hear(told: list[Change]) -> None:
        nonlocal last_heard
        for one in told:
            name = one.record.instance.id
            assert (one.kind == "up") == (name not in users)
            assert last_heard <= one.revision
            last_heard = one.revision
            if one.kind == "down":
                del users[name]
            else:
                assert users.get(name) != one.record
                users[name] = one.record

    for _ in range(data.draw(st.integers(1, 12))):
        for _ in range(data.draw(st.integers(0, 4))):
            registry.happen(data.draw(st.sampled_from("abc")), data.draw(st.integers(0, 2)))
        at = data.draw(st.integers(0, registry.revision))  # a node that may lag behind
        match data.draw(st.sampled_from(["snapshot", "resume", "restart", "bookmark", "lost"])):
            case "snapshot":
                hear(view.replace(registry.cluster, at, list(registry.states[at].values())))
            case "resume":
                since = view.resume_at(registry.cluster)
                if since == 0 or since > at:
                    hear(view.replace(registry.cluster, at, list(registry.states[at].values())))
                else:
                    overlap = max(0, since - data.draw(st.integers(0, 2)))
                    hear(view.apply(at, registry.log[overlap:at]))
            case "restart":
                registry = Registry(f"c{data.draw(st.integers(2, 9))}x{registry.cluster}")
                last_heard = 0
                hear(view.replace(registry.cluster, 0, []))
                last_heard = 0
            case "bookmark" if view.cluster == registry.cluster and view.revision == at:
                view.confirm(at)
            case _:
                view.lost()

    end = registry.revision
    hear(view.replace(registry.cluster, end, list(registry.states[end].values())))
    hear(view.lapse())

    assert {name: one.instance for name, one in users.items()} == {
        name: one.instance for name, one in registry.states[end].items()
    }
    assert {key[1]: one for key, one in view.records.items()} == registry.states[end]


def test_a_change_that_is_told_otherwise_keeps_all_but_its_kind() -> None:
    view = seen(record("a"), revision=5)
    again = change(6, "up", record("a", port=99, revision=6))

    assert view.apply(6, [again]) == [msgspec.structs.replace(again, kind="changed")]
