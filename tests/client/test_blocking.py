"""The same verbs from threads, from forks, and at the end of a process."""

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

import waypost
from waypost.errors import Invalid, NoInstance, Superseded, Unavailable
from waypost.node.bootstrap import NodeConfig
from waypost.standalone import StandaloneThread


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    thread = StandaloneThread(NodeConfig(), native_port=0, http_port=None).start()
    yield thread.standalone.native_address
    thread.stop()


@pytest.fixture
def registry(address: str) -> Iterator[waypost.BlockingRegistry]:
    with waypost.connect(address, cache_dir=None) as registry:
        yield registry


def ports(registry: waypost.BlockingRegistry, service: str) -> set[int]:
    return {instance.port for instance in registry.resolve(service).instances}


def test_every_verb_blocks_until_it_is_done(registry: waypost.BlockingRegistry) -> None:
    with registry.register("b1", port=1, weight=2, id="one") as registration:
        assert registration.state == "registered"
        assert ports(registry, "b1") == {1}
        registration.set_health("warning", "slow")
        registration.update(weight=3, zone="a")
        assert registration.instance.weight == 3.0
        assert registry.resolve("b1", zone="a").records[0].health == "warning"
        assert "b1" in {summary.service for summary in registry.services().services}
        assert registry.status().connections >= 1
        assert registration.drain(5).unseen == 0
        assert registry.resolve("b1", health="any").records[0].health == "draining"
        assert registry.drain("b1", "one", 5).unseen == 0

    assert registration.state == "left"
    assert registration.error is None
    assert ports(registry, "b1") == set()
    registry.register("b1", port=2, id="two")
    registry.deregister("b1", "two")
    assert ports(registry, "b1") == set()


def test_a_view_is_picked_from_without_waiting(registry: waypost.BlockingRegistry) -> None:
    registry.register("b2", port=1)
    view = registry.service("b2", policy="round_robin")

    with view.call() as instance:
        assert instance.port == 1
        (endpoint,) = view.live()[1].pool.endpoints
        assert endpoint.in_flight == 1
    with pytest.raises(ZeroDivisionError), view.call():
        _ = 1 / 0

    assert endpoint.in_flight == 0
    assert [i.port for i in view.instances] == [1]
    assert len(view.records) == 1
    assert (view.name, view.policy, view.source) == ("b2", "round_robin", "follower")
    assert view.revision > 0
    assert abs(view.as_of - time.time()) < 5
    assert view.age < 5
    with pytest.raises(NoInstance):
        registry.service("b2-none").pick()


def test_a_watch_is_a_plain_loop(registry: waypost.BlockingRegistry) -> None:
    first = registry.register("b3", port=1)
    with registry.watch("b3") as watch:
        watch.ready()
        first.deregister()
        told = []
        for change in watch:
            told.append(change.kind)
            if change.kind == "down":
                break
        assert (watch.source, watch.revision > 0, watch.age < 5) == ("follower", True, True)

    assert told == ["up", "down"]
    assert list(watch) == []


def test_closing_a_watch_ends_the_loop_of_another_thread(
    registry: waypost.BlockingRegistry,
) -> None:
    registry.register("b4", port=1)
    watch = registry.watch("b4")
    has_begun = threading.Event()

    def read() -> list[str]:
        kinds = []
        for change in watch:
            kinds.append(change.kind)
            has_begun.set()
        return kinds

    with ThreadPoolExecutor() as threads:
        reading = threads.submit(read)
        assert has_begun.wait(10)
        watch.close()
        watch.close()
        assert reading.result(10) == ["up"]


def test_any_number_of_threads_may_use_one_client(registry: waypost.BlockingRegistry) -> None:
    view = registry.service("b5")
    registry.register("b5", port=9999)

    def work(port: int) -> None:
        for _ in range(5):
            with registry.register("b5", port=port):
                assert port in ports(registry, "b5")
                assert port in {instance.port for instance in view.instances}
                for _ in range(20):
                    with view.call() as instance:
                        assert 1 <= instance.port <= 9999

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(work, range(1, 9)))

    assert ports(registry, "b5") == {9999}
    assert all(e.in_flight == 0 for e in view.live()[1].pool.endpoints)


def test_two_clients_that_want_the_same_id_do_not_fight(
    address: str, registry: waypost.BlockingRegistry
) -> None:
    older = registry.register("b6", port=1, id="one")
    with waypost.connect(address, cache_dir=None) as other:
        other.register("b6", port=2, id="one")
        with pytest.raises(Superseded):
            older.set_health("warning")

        assert older.state == "superseded"
        assert isinstance(older.error, Superseded)
        older.deregister()
        assert ports(other, "b6") == {2}


def test_closing_deregisters_and_closing_twice_does_nothing(
    address: str, registry: waypost.BlockingRegistry
) -> None:
    with waypost.connect(address, cache_dir=None) as other:
        registration = other.register("b7", port=1)
        view = other.service("b7")
        assert view.pick().port == 1
        other.close()
        assert ports(registry, "b7") == set()
        with registration:
            pass
        for verb in (other.services, other.status, view.pick):
            with pytest.raises(Unavailable, match="closed"):
                verb()
    other.close()


def test_what_is_wrong_is_refused_in_the_callers_thread(
    registry: waypost.BlockingRegistry,
) -> None:
    with pytest.raises(Invalid, match="port"):
        registry.register("b8", port=0)
    with pytest.raises(Invalid, match="service"):
        registry.service("Not A Name")
    with pytest.raises(Invalid, match="service"):
        registry.watch("Not A Name")


def test_without_a_registry_the_error_comes_at_once() -> None:
    with waypost.connect("127.0.0.1:1", cache_dir=None) as registry:
        began = time.monotonic()
        with pytest.raises(Unavailable, match=":1: connection refused"):
            registry.register("b9", port=1)

        assert time.monotonic() - began < 3


def run_python(program: str, *arguments: str, code: int | None = 0) -> str:
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-W",
            "ignore::DeprecationWarning",
            "-c",
            textwrap.dedent(program),
            *arguments,
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "XDG_CACHE_HOME": "/nonexistent-cache"},
    )
    if code is not None:
        assert done.returncode == code, done.stderr
    if code == 0:
        assert done.stderr == ""
    return done.stdout


def test_the_end_of_the_process_deregisters_without_being_asked(
    address: str, registry: waypost.BlockingRegistry
) -> None:
    watch = registry.watch("b10")
    run_python(
        """
        import sys, waypost
        registry = waypost.connect(sys.argv[1], cache_dir=None).blocking()
        registry.register("b10", port=1)
        """,
        address,
    )

    assert next(watch).kind == "up"
    down = next(watch)
    assert (down.kind, down.record.why) == ("down", "session ended")


def test_an_interrupt_leaves_the_client_usable_and_the_end_clean(
    address: str, registry: waypost.BlockingRegistry
) -> None:
    watch = registry.watch("b11")
    out = run_python(
        """
        import os, signal, sys, threading, waypost
        with waypost.connect(sys.argv[1], cache_dir=None) as registry:
            with registry.register("b11", port=1):
                threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
                try:
                    for change in registry.watch("b11-nothing"):
                        pass
                except KeyboardInterrupt:
                    print("interrupted", len(registry.resolve("b11").instances))
        """,
        address,
    )

    assert out == "interrupted 1\n"
    assert [next(watch).kind, next(watch).record.why] == ["up", "deregistered"]


FORK = """
import os, sys, waypost
registry = waypost.connect(sys.argv[1], cache_dir=None).blocking()
view = registry.service("b12")
with registry.register("b12", port=1) as registration:
    assert view.pick().port == 1
    parent_session = registry.resolve("b12").records[0].session
    child = os.fork()
    if child == 0:
        assert view.pick().port == 1, "a view starts again by itself"
        assert next(registry.watch("b12")).kind == "up"
        mine = registry.register("b12", port=2)
        sessions = {r.instance.port: r.session for r in registry.resolve("b12").records}
        assert sessions[1] == parent_session != sessions[2]
        try:
            registration.set_health("critical")
        except waypost.Rejected:
            print("refused", flush=True)
        registry.close()
        registry = None
    else:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert [i.port for i in registry.resolve("b12").instances] == [1]
        assert registration.state == "registered"
        registration.set_health("warning")
        print("still registered", flush=True)
"""


def test_a_forked_child_leaves_its_parents_session_alone(
    address: str, registry: waypost.BlockingRegistry
) -> None:
    watch = registry.watch("b12")
    out = run_python(FORK, address)

    assert out == "refused\nstill registered\n"
    told = [next(watch) for _ in range(5)]
    assert [(c.kind, c.record.instance.port) for c in told] == [
        ("up", 1),
        ("up", 2),
        ("down", 2),
        ("changed", 1),
        ("down", 1),
    ]
    assert not any(change.record.suspect for change in told)


def test_a_parent_that_dies_is_gone_at_once_though_its_child_lives(
    address: str, registry: waypost.BlockingRegistry
) -> None:
    watch = registry.watch("b13")
    child = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent("""
                import os, signal, sys, time, waypost
                registry = waypost.connect(sys.argv[1], cache_dir=None).blocking()
                registry.register("b13", port=1, grace=0)
                if os.fork() == 0:
                    sys.stdin.read()
                    os._exit(0)
                os.kill(os.getpid(), signal.SIGKILL)
            """),
            address,
        ],
        stdin=subprocess.PIPE,
    )
    try:
        assert next(watch).kind == "up"
        began = time.monotonic()
        assert next(watch).kind == "down"
        assert time.monotonic() - began < 4, "well before its lease of 10 s"
    finally:
        assert child.stdin is not None
        child.stdin.close()
        child.wait(10)
