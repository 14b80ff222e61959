"""docs/protocol.md says what the code says: every table, every limit, every byte of its example."""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
import uvloop
from msgspec import inspect
from tests.docs.runner import blocks_of
from tests.servers.native.test_fuzz import ANSWERS, UNANSWERED
from tests.servers.native.world import opened

from waypost import checks, commands, errors, model, wire
from waypost.catalog import origins
from waypost.servers.native import connection, conversation
from waypost.testing.temporary import TemporaryRegistry
from waypost.transport.frames import encode_frame

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text()
STRUCTS = {
    name: each
    for module in (wire, commands, model)
    for name, each in vars(module).items()
    if isinstance(each, type) and issubclass(each, msgspec.Struct)
}
INNER = {
    # of the node itself, and never in a frame of a client
    commands.ReapCheck,
    *(commands.Attach, commands.Detach, commands.Suspect, commands.Expire, commands.Sweep),
    *(commands.LogBatch, commands.Origin),
    # and of what other doors do to keys
    *(commands.Transact, *get_args(commands.KeyCommand)),
    *get_args(commands.Operation),
}
KINDS = {
    name: number
    for name, number in vars(wire).items()
    if name.isupper() and isinstance(number, int) and "_" not in name
}


def section(title: str) -> str:
    """What stands between a heading and the next."""
    found = re.search(rf"^#+ {title}\n(.*?)(?=^#+ |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found, f"the page has no section {title!r}"
    return found[1]


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in a text, without their heads."""
    found: list[list[str]] = []
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        found += [
            [cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]
        ]
    return found


def shown(kind: inspect.Type) -> str:
    """A type as the page writes it."""
    match kind:
        case inspect.StrType() | inspect.LiteralType():
            return "str"
        case inspect.IntType():
            return "int"
        case inspect.FloatType():
            return "float"
        case inspect.BoolType():
            return "bool"
        case inspect.BytesType():
            return "bytes"
        case inspect.NoneType():
            return "nil"
        case inspect.ListType() | inspect.VarTupleType():
            return f"[{shown(kind.item_type)}]"
        case inspect.DictType():
            return f"{{{shown(kind.key_type)}: {shown(kind.value_type)}}}"
        case inspect.StructType():
            return kind.cls.__name__
        case inspect.UnionType():
            return " or ".join(dict.fromkeys(map(shown, kind.types)))
        case _:
            raise AssertionError(kind)


def default_of(field: inspect.Field) -> str:
    if field.default_factory is not msgspec.NODEFAULT:
        return json.dumps(field.default_factory())
    if field.default is msgspec.NODEFAULT:
        return ""
    text = json.dumps(msgspec.to_builtins(field.default))
    return "nil" if text == "null" else text


@pytest.mark.parametrize("name", sorted(set(STRUCTS) - {each.__name__ for each in INNER}))
def test_every_structure_is_told_field_by_field(name: str) -> None:
    told = rows(section(name))
    info = inspect.type_info(STRUCTS[name])
    assert isinstance(info, inspect.StructType)

    expected = [[field.name, shown(field.type), default_of(field)] for field in info.fields]
    if info.array_like:
        if info.tag is not None:
            expected.insert(0, ["", str(info.tag), ""])
        expected = [[str(place), *cells] for place, cells in enumerate(expected)]
        assert [cells[:4] for cells in told] == expected
    else:
        assert [cells[:3] for cells in told] == expected


def test_every_kind_is_told_with_its_number_and_its_answer() -> None:
    told = {cells[1]: (int(cells[0]), cells[3]) for cells in rows(section("Kinds"))}

    assert {name: number for name, (number, _) in told.items()} == KINDS
    names = {number: name for name, number in KINDS.items()}
    for request, answers in ANSWERS.items():
        listed = set(re.findall(r"[A-Z]+", told[names[request]][1]))
        assert listed == {names[answer] for answer in answers}
    for request in UNANSWERED:
        assert told[names[request]][1] == ""


def test_every_body_that_a_kind_names_has_a_section() -> None:
    for cells in rows(section("Kinds")):
        for anchor in re.findall(r"\(#([a-z]+)\)", cells[2]):
            assert re.search(rf"^#+ {anchor}$", PAGE, re.MULTILINE | re.IGNORECASE), anchor


def test_every_error_that_travels_is_told_and_whether_to_ask_again() -> None:
    told = {cells[0]: cells[1] == "yes" for cells in rows(section("Codes"))}

    assert told == {code: error.retryable for code, error in errors.ERRORS_BY_CODE.items()}


def test_every_limit_is_what_the_code_has() -> None:
    told = {cells[0]: int(cells[1]) for cells in rows(section("Limits"))}
    known: dict[str, Any] = {}
    for module in (checks, connection, conversation, model, origins, wire):
        known |= vars(module)

    assert told == {name: known[name] for name in told}
    named = set(re.findall(r"`([A-Z_]{4,})`", PAGE))
    assert named <= set(told), "every limit that the page names is in its table"
    ours = {
        name
        for name in {*vars(wire), *vars(model), *vars(checks)}
        if name.endswith(("_MAX", "_MIN"))
    }
    assert ours <= set(told), "every limit of the code is in the table"


def test_a_frame_is_laid_out_as_the_page_says() -> None:
    frame = encode_frame(0x11, 0x22334455, b"body")

    at = 0
    for offset, size, name, _ in rows(section("Frames")):
        assert int(offset) == at
        if name != "body":
            value = int.from_bytes(frame[at : at + int(size)], "big")
            assert value == {"length": len(frame) - 4, "kind": 0x11, "id": 0x22334455}[name]
            at += int(size)
    assert frame[at:] == b"body"


# The example


async def example() -> str:
    """Have the conversation of the page, and write it down as the page does."""
    session = "5f0c8e21b7d94a63"
    written: list[str] = []
    async with opened() as world:
        peer = await world.connect(hello=False)

        def note(arrow: str, kind: int, frame_id: int, body: bytes) -> None:
            name = next(name for name, number in KINDS.items() if number == kind)
            value = json.dumps(msgspec.msgpack.decode(body), ensure_ascii=False) if body else ""
            told = f"{arrow} {name} {frame_id} {value}"
            written.extend(textwrap.wrap(told, 96, subsequent_indent="  "))
            frame = encode_frame(kind, frame_id, body).hex()
            head = f"{frame[:8]} {frame[8:10]} {frame[10:18]}"
            for at in range(18, max(len(frame), 19), 64):
                written.append(f"    {head:20} {frame[at : at + 64]}".rstrip())
                head = ""

        async def ask(kind: int, frame_id: int, body: object = None, *, answers: int = 1) -> None:
            encoded = b"" if body is None else wire.encode(body)
            peer.raw(encode_frame(kind, frame_id, encoded))
            note("→", kind, frame_id, encoded)
            for _ in range(answers):
                note("←", *await peer.frame())

        await ask(wire.HELLO, 1, [1, "example"])
        await ask(wire.ATTACH, 2, [session, 10_000, 2_000])
        await ask(wire.WATCH, 3, ["orders"])
        await ask(wire.WRITE, 4, [[1, ["orders", "o-1", "10.0.0.1", 8080], session]], answers=2)
        await ask(wire.SEEN, 3, 2, answers=0)
        await ask(wire.RESOLVE, 5, ["orders"])
        await ask(wire.WRITE, 6, [[1, ["orders", "o-2", "10.0.0.2", 0], session]])
        await ask(wire.PING, 7)
        await ask(wire.DETACH, 8, session, answers=2)
        await ask(wire.UNWATCH, 3, answers=0)
    return "\n".join(written) + "\n"


def test_the_conversation_is_what_a_node_says_to_the_byte() -> None:
    found = re.search(r"<!-- conversation -->\n```text\n(.*?)```", PAGE, re.DOTALL)
    assert found

    assert uvloop.run(example()) == found[1]


# The client


def client() -> str:
    (block,) = (each for each in blocks_of("docs/protocol.md") if each.language == "python")
    return block.content


def run_client(program: str, address: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program],
        env={**os.environ, "WAYPOST": address},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_the_client_of_the_page_registers_resolves_and_watches(
    waypost_registry: TemporaryRegistry,
) -> None:
    program = client()
    assert "waypost." not in program
    assert len(program.splitlines()) < 100

    with run_client(program, waypost_registry.address) as process:
        printed, _ = process.communicate(timeout=30)

    assert process.returncode == 0
    assert printed.splitlines() == [
        "registered, incarnation 2",
        "resolved [('127.0.0.1', 9001)]",
        "there are ['p-1']",
        "there are []",
    ]


def test_the_client_of_the_page_is_kept_alive_by_answering_pings(
    waypost_registry: TemporaryRegistry,
) -> None:
    program = client().replace("for seen in", "for seen in () and")
    program += "print('up', flush=True)\nprovider.receive()\n"

    with run_client(program, waypost_registry.address) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "up\n":
            assert process.poll() is None
        waypost_registry.clock.advance(60)
        assert [each.id for each in waypost_registry.instances("plain")] == ["p-1"]

        process.kill()
        waypost_registry.clock.advance(2)
        waypost_registry.wait_for("plain", 0)
