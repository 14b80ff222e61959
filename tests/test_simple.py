"""The front page, as a newcomer uses it."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2
import pytest

from waypost.errors import Invalid, NoInstance, Unavailable
from waypost.model import Instance
from waypost.simple import ServiceConsumer, ServiceProvider, ServiceRegistry, url_of


class App:
    """An HTTP service that says what it was asked, or fails."""

    def __init__(self) -> None:
        self.status = 200
        self.asked: list[str] = []
        app = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                app.asked.append(self.path)
                self.send_response(app.status)
                self.end_headers()
                self.wfile.write(f"{self.command} {self.path}".encode())

            def do_POST(self) -> None:
                self.do_GET()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def app() -> Iterator[App]:
    app = App()
    yield app
    app.close()


@pytest.fixture(scope="module")
def registry() -> Iterator[ServiceRegistry]:
    with ServiceRegistry(embedded=True) as registry:
        yield registry


PROVIDER = """
import threading, http.server
from waypost import ServiceProvider, ServiceRegistry

class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"three orders")
    def log_message(self, *_): pass

server = http.server.HTTPServer(("127.0.0.1", 0), Hello)
threading.Thread(target=server.serve_forever, daemon=True).start()

registry = ServiceRegistry()
ServiceProvider("orders", f"http://127.0.0.1:{server.server_port}", registry).start()
print("started", flush=True)
threading.Event().wait()
"""
CONSUMER = """
from waypost import ServiceConsumer, ServiceRegistry

registry = ServiceRegistry()
consumer = ServiceConsumer(registry)
url = consumer.get_service_url("orders")
print(consumer.call_service(url).text)
"""


def test_a_provider_in_one_process_is_found_and_called_from_another(
    registry: ServiceRegistry,
) -> None:
    environment = {**os.environ, "WAYPOST": registry.address}
    provider = subprocess.Popen(
        [sys.executable, "-c", PROVIDER], env=environment, stdout=subprocess.PIPE, text=True
    )
    try:
        assert provider.stdout is not None
        assert provider.stdout.readline() == "started\n"

        said = subprocess.check_output([sys.executable, "-c", CONSUMER], env=environment, text=True)
        assert said == "three orders\n"

        provider.send_signal(signal.SIGKILL)
        provider.wait(10)
        watch = registry._client.watch("orders")
        for change in watch:
            if change.record.suspect or change.kind == "down":
                break
        lost = subprocess.run(
            [sys.executable, "-c", CONSUMER],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        # Its last resort, for as long as nobody knows better; or nothing, a moment later.
        assert "ConnectError" in lost.stderr or "NoInstance" in lost.stderr
    finally:
        provider.kill()
        provider.wait(10)
        assert provider.stdout is not None
        provider.stdout.close()


def test_what_is_registered_is_found_until_it_is_deregistered(registry: ServiceRegistry) -> None:
    assert registry.get_service("s1") is None
    assert registry.get_services("s1") == []

    registry.register("s1", "http://10.0.0.1:9001")
    registry.register("s1", "http://10.0.0.1:9001")
    registry.register("s1", "http://10.0.0.2:9001", weight=2, zone="a")

    assert sorted(registry.get_services("s1")) == ["http://10.0.0.1:9001", "http://10.0.0.2:9001"]
    assert registry.get_service("s1") in registry.get_services("s1")
    registry.deregister("s1", "http://10.0.0.1:9001")
    assert registry.get_services("s1") == ["http://10.0.0.2:9001"]
    assert registry.get_service("s1") == "http://10.0.0.2:9001"
    registry.deregister("s1", "http://10.0.0.2:9001")
    registry.deregister("s1", "http://10.0.0.2:9001")
    assert registry.get_service("s1") is None


def test_policies_are_chosen_by_name(registry: ServiceRegistry) -> None:
    for port in (1, 2, 3):
        registry.register("s2", f"http://10.0.0.1:{port}")

    turns = [registry.get_service("s2", "round_robin") for _ in range(6)]

    assert set(turns[:3]) == set(turns[3:]) == set(registry.get_services("s2"))
    with pytest.raises(Invalid, match="policy"):
        registry.get_service("s2", "best")


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1:9001",
        "https://orders.example.com",
        "https://orders.example.com:8443/api/v1",
        "http://10.0.0.1/",
        "http://[2001:db8::1]:9001/x",
        "grpc://10.0.0.1:50051",
    ],
)
def test_a_url_comes_back_as_it_was_given(registry: ServiceRegistry, url: str) -> None:
    with ServiceProvider("s3", url, registry):
        assert registry.get_services("s3") == [url]
        assert registry.get_service("s3") == url
    assert registry.get_services("s3") == []


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("10.0.0.1:9001", "no scheme or no host"),
        ("http://", "no scheme or no host"),
        ("http://h:99999", "out of range"),
        ("grpc://h", "no port of its own"),
        ("http://user:secret@h:1", "user"),
        ("http://h:1/?q=1", "query"),
        ("http://h:1/#x", "fragment"),
        ("http://a_b$:1", "host"),
    ],
)
def test_a_url_that_is_none_is_refused_with_an_example(
    registry: ServiceRegistry, url: str, complaint: str
) -> None:
    for verb in (
        lambda: registry.register("s4", url),
        lambda: registry.deregister("s4", url),
        lambda: ServiceProvider("s4", url, registry),
    ):
        with pytest.raises(Invalid, match=complaint):
            verb()


def test_an_instance_that_says_nothing_of_a_scheme_is_taken_for_http() -> None:
    assert url_of(Instance("s", "i", "10.0.0.1", 9001)) == "http://10.0.0.1:9001"
    assert url_of(Instance("s", "i", "10.0.0.1", 80)) == "http://10.0.0.1"


def test_anybody_may_deregister_what_somebody_else_registered(registry: ServiceRegistry) -> None:
    url = "http://10.0.0.1:9001/x"
    with ServiceRegistry(registry.address) as other:
        other.register("s5", url)
        registry.deregister("s5", "http://10.0.0.1:9001/y")
        assert registry.get_services("s5") == [url]

        registry.deregister("s5", url)

        assert registry.get_services("s5") == []


def test_a_call_reaches_the_provider_with_all_that_was_given(
    registry: ServiceRegistry, app: App
) -> None:
    with (
        ServiceProvider("s6", f"{app.url}/base", registry),
        ServiceConsumer(registry) as consumer,
    ):
        url = consumer.get_service_url("s6")
        assert url == f"{app.url}/base"
        assert consumer.call_service(url).text == "GET /base"
        response = consumer.call_service(
            f"{url}/orders", method="POST", json={"a": 1}, params={"page": 2}, timeout=5
        )
        assert response.status_code == 200
        assert response.text == "POST /base/orders?page=2"
        assert consumer.call_service(app.url + "/other").text == "GET /other"


def test_calls_teach_the_consumer_whom_to_avoid(registry: ServiceRegistry) -> None:
    good, bad = App(), App()
    bad.status = 503
    try:
        with ServiceConsumer(registry) as consumer:
            for app in (good, bad):
                registry.register("s7", app.url)
            for _ in range(60):
                consumer.call_service(consumer.get_service_url("s7"))

            assert len(bad.asked) < 10
            (_, service) = registry.view("s7").live()
            assert all(endpoint.in_flight == 0 for endpoint in service.pool.endpoints)
    finally:
        good.close()
        bad.close()


def test_a_provider_that_cannot_be_reached_is_the_callers_to_hear_and_is_avoided(
    registry: ServiceRegistry, app: App
) -> None:
    dead = App()
    dead.close()
    with ServiceConsumer(registry) as consumer:
        for url in (app.url, dead.url):
            registry.register("s8", url)
        errors = 0
        for _ in range(40):
            try:
                consumer.call_service(consumer.get_service_url("s8"))
            except httpx2.ConnectError:
                errors += 1

        assert errors < 10
        assert len(app.asked) == 40 - errors


def test_a_service_without_a_provider_says_so(registry: ServiceRegistry) -> None:
    with (
        ServiceConsumer(registry) as consumer,
        pytest.raises(NoInstance, match="s9"),
    ):
        consumer.get_service_url("s9")


def test_a_provider_may_be_started_and_stopped_again_and_again(registry: ServiceRegistry) -> None:
    provider = ServiceProvider("s10", "http://10.0.0.1:1", registry)
    for _ in range(3):
        assert provider.start() is provider
        provider.start()
        assert registry.get_services("s10") == ["http://10.0.0.1:1"]
        provider.stop()
        provider.stop()
        assert registry.get_services("s10") == []


def test_provider_and_consumer_find_the_default_registry_by_themselves(
    registry: ServiceRegistry, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WAYPOST", registry.address)

    with ServiceProvider("s11", app.url), ServiceConsumer() as consumer:
        assert consumer.call_service(consumer.get_service_url("s11")).status_code == 200

    assert registry.get_services("s11") == []


def test_many_threads_may_share_all_of_it(registry: ServiceRegistry, app: App) -> None:
    with ServiceConsumer(registry) as consumer, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: registry.register("s12", app.url), range(8)))
        assert registry.get_services("s12") == [app.url]
        assert len(registry._client.resolve("s12").records) == 1

        def call(_: int) -> str:
            return consumer.call_service(consumer.get_service_url("s12")).text

        assert set(threads.map(call, range(50))) == {"GET /"}


def test_an_embedded_registry_has_an_address_for_others_and_ends_with_its_owner() -> None:
    with ServiceRegistry(embedded=True) as owner:
        with ServiceRegistry(owner.address) as guest:
            guest.register("s13", "http://10.0.0.1:1")
            assert owner.get_services("s13") == ["http://10.0.0.1:1"]
        address = owner.address
    owner.close()

    with ServiceRegistry(address, timeout=1) as late, pytest.raises(Unavailable):
        late.register("s13", "http://10.0.0.1:1")
    with pytest.raises(Invalid, match="embedded"):
        ServiceRegistry("127.0.0.1:1", embedded=True)


def test_a_program_that_just_ends_leaves_nothing_behind(registry: ServiceRegistry) -> None:
    program = textwrap.dedent("""
        from waypost import ServiceConsumer, ServiceProvider, ServiceRegistry
        own = ServiceRegistry(embedded=True)
        ServiceProvider("s14", "http://10.0.0.1:1", own).start()
        assert ServiceConsumer(own).get_service_url("s14") == "http://10.0.0.1:1"
        ServiceProvider("s14", "http://10.0.0.1:2").start()
    """)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, "WAYPOST": registry.address},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert registry.get_services("s14") == []
