"""Conversations with real clients, as they were recorded, word by word."""

from pathlib import Path

import pytest
from tests.servers.xds.world import World

from waypost.servers.xds.delta import DeltaRequest, DeltaStream
from waypost.servers.xds.kinds import CDS, EDS, LDS, RDS
from waypost.servers.xds.sotw import SotwRequest, SotwStream
from waypost.servers.xds.subscription import Response

KINDS = {"LDS": LDS, "RDS": RDS, "CDS": CDS, "EDS": EDS}
TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))


def fields(words: list[str]) -> dict[str, tuple[str, ...]]:
    """``names=a,b nonce=3``."""
    return {key: tuple(value.split(",")) for key, _, value in (w.partition("=") for w in words)}


def shown(response: Response | None) -> str:
    if response is None:
        return "nothing"
    kind = next(short for short, kind in KINDS.items() if kind == response.kind)
    told = ",".join(resource.name for resource in response.resources)
    gone = ",".join(response.removed)
    return " ".join(
        filter(
            None,
            [
                f"< {kind} nonce={response.nonce}",
                told and f"told={told}",
                gone and f"gone={gone}",
            ],
        )
    )


def hear(stream: SotwStream | DeltaStream, kind: str, said: dict[str, tuple[str, ...]]) -> None:
    (nonce,) = said.get("nonce", ("",))
    if isinstance(stream, SotwStream):
        refusal = stream.receive(SotwRequest(kind, said.get("names", ()), nonce))
    else:
        refusal = stream.receive(
            DeltaRequest(kind, said.get("subscribe", ()), said.get("unsubscribe", ()), nonce=nonce)
        )
    assert refusal is None


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda path: path.stem)
def test_what_was_recorded_is_what_is_said(transcript: Path) -> None:
    world = World("orders")
    stream = (DeltaStream if "delta" in transcript.stem else SotwStream)(world)

    for number, line in enumerate(transcript.read_text().splitlines(), 1):
        where = f"{transcript.name}:{number}"
        if line.startswith("<"):
            assert shown(stream.take()) == line, where
            continue
        assert shown(stream.take()) == "nothing", where
        match line.split():
            case [">", kind, *words]:
                hear(stream, KINDS[kind], fields(words))
            case ["=", service, "0"]:
                del world.services[service]
                stream.touch([service])
            case ["=", service, version]:
                world.services[service] = int(version)
                stream.touch([service])
            case _:
                assert line.startswith("#"), where
    assert stream.take() is None


def test_there_are_transcripts_of_every_client() -> None:
    stems = {path.stem for path in TRANSCRIPTS}
    assert stems == {"envoy", "envoy-delta", "grpc-js", "grpcio"}
