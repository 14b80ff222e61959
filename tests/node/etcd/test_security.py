"""TLS, certificates, users and rights: what is right gets in, and what is wrong is told."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.node.etcd.logs import writer
from tests.node.etcd.servers import EtcdServer
from tests.node.etcd.world import run

from waypost.errors import Invalid, TimedOut
from waypost.node.etcd import rpc
from waypost.node.etcd.client import EtcdClient
from waypost.node.etcd.preflight import preflight
from waypost.node.etcd.settings import EtcdSettings


class Certificates:
    """An authority, a server's and a client's certificate."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self._openssl("req", "-x509", *_NEW, "ca.key", "-out", "ca.crt", "-subj", "/CN=test ca")
        for name in ("server", "client"):
            self._openssl(
                "req", *_NEW, f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}"
            )
            (directory / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
            signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2")
            self._openssl(
                "x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.crt", *signed,
                "-extfile", "names",
            )  # fmt: skip

    def path(self, name: str) -> str:
        return str(self.directory / name)

    def _openssl(self, *arguments: str) -> None:
        done = subprocess.run(
            ["openssl", *arguments], cwd=self.directory, capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr


_NEW = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("tls") / "certificates")


@pytest.fixture(scope="module")
def secure(certificates: Certificates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    server = EtcdServer(
        tmp_path_factory.mktemp("secure"),
        "m0",
        f"--cert-file={certificates.path('server.crt')}",
        f"--key-file={certificates.path('server.key')}",
        f"--trusted-ca-file={certificates.path('ca.crt')}",
        "--client-cert-auth",
        scheme="https",
    ).start()
    yield server.endpoint
    server.stop()


def test_a_certificate_that_etcd_trusts_gets_in(secure: str, certificates: Certificates) -> None:
    settings = EtcdSettings(
        endpoints=(secure,),
        ca=certificates.path("ca.crt"),
        cert=certificates.path("client.crt"),
        key=certificates.path("client.key"),
    )

    async def story() -> None:
        async with writer(settings) as a:
            await a.append(b"1", 1)
            assert a.heard.tokens == [1]

    run(story)


def test_without_a_certificate_or_tls_nobody_gets_in(
    secure: str, certificates: Certificates
) -> None:
    without = EtcdSettings(endpoints=(secure,), ca=certificates.path("ca.crt"))
    plain = EtcdSettings(endpoints=(secure.replace("https", "http"),))

    async def story() -> None:
        for settings in (without, plain):
            client = EtcdClient(settings)
            client.read_s = 0.5
            with pytest.raises(TimedOut, match=re.escape(secure.removeprefix("https"))):
                await client.range(rpc.range_request(b"/test/x"))
            client.close()

    run(story)


def test_files_that_cannot_be_are_told_by_name() -> None:
    with pytest.raises(Invalid, match=re.escape("/nowhere/ca.crt")):
        EtcdClient(EtcdSettings(endpoints=("https://h:1",), ca="/nowhere/ca.crt"))
    with pytest.raises(Invalid, match="name both"):
        EtcdClient(EtcdSettings(endpoints=("https://h:1",), cert="/some.crt"))
    with pytest.raises(Invalid, match="use http://host:port"):
        EtcdClient(EtcdSettings(endpoints=("127.0.0.1:2379",)))


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    server = EtcdServer(tmp_path_factory.mktemp("guarded"), "m0", "--auth-token-ttl=2").start()
    server.ctl("user", "add", "root:top")
    server.ctl("user", "grant-role", "root", "root")
    server.ctl("user", "add", "waypost:secret")
    server.ctl("role", "add", "registry")
    server.ctl("role", "grant-permission", "registry", "--prefix=true", "readwrite", "/mine/")
    server.ctl("user", "grant-role", "waypost", "registry")
    server.ctl("auth", "enable")
    yield server
    server.stop()


def _user(server: EtcdServer, prefix: str = "/mine", password: str = "secret") -> EtcdSettings:
    return EtcdSettings(
        endpoints=(server.endpoint,), prefix=prefix, user="waypost", password=password
    )


def test_a_user_with_rights_below_the_prefix_gets_in(guarded: EtcdServer) -> None:
    async def story() -> None:
        async with writer(_user(guarded)) as a, writer(_user(guarded), "b") as b:
            await a.append(b"1", 1)
            await b.heard.count(1)

    run(story)


def test_a_token_that_etcd_forgets_is_asked_for_again(guarded: EtcdServer) -> None:
    async def story() -> None:
        async with writer(_user(guarded, "/mine/again")) as a:
            await a.append(b"1", 1)
            guarded.kill()  # tokens are in its memory alone
            guarded.start(wait=False)
            await a.append(b"2", 2)
            while 2 in a.heard.refusals and b"3" not in a.heard.payloads:
                await a.append(b"3", 3)

            assert a.heard.payloads[-1] in (b"2", b"3")
            assert a.heard.end is None

    run(story)


def test_wrong_credentials_and_missing_rights_are_told(guarded: EtcdServer) -> None:
    wrong = _user(guarded, password="guess")
    elsewhere = _user(guarded, prefix="/other")
    nobody = EtcdSettings(endpoints=(guarded.endpoint,), prefix="/mine")

    async def story() -> None:
        for settings, why in (
            (wrong, "authentication failed"),
            (elsewhere, "permission denied"),
            (nobody, "user name is empty"),
        ):
            with pytest.raises(Invalid, match=why):
                async with writer(settings):
                    pass

    run(story)


def test_preflight_says_what_is_missing(guarded: EtcdServer) -> None:
    async def story() -> None:
        client = EtcdClient(_user(guarded))
        here = await preflight(client, "/mine", cluster_id=0)
        elsewhere = await preflight(client, "/other", state_bytes=1 << 30, cluster_id=1)
        client.close()

        assert here.findings == ()
        assert here.version.startswith("3.")
        assert here.cluster_id
        told = " | ".join(elsewhere.findings)
        for what in ("transaction: ", "permission denied", "quota: ", "cluster: "):
            assert what in told, told

    run(story)
