"""Each form of an instance tells the same: JSON, XML, and ours."""

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.errors import Invalid
from waypost.model import Instance, Record, check_id, check_instance, check_service
from waypost.servers.eureka.info import (
    SECURE_PORT,
    STATUSES,
    TEXTS,
    DataCenter,
    InstanceInfo,
    Port,
    class_of,
    fields_of,
    info_of,
)
from waypost.servers.eureka.names import app_of, id_of, instance_id_of, service_of
from waypost.servers.eureka.translating import (
    health_of,
    instance_of,
    overridden,
    override_of,
    status_of,
)
from waypost.servers.eureka.translating import info_of as shown
from waypost.servers.eureka.xml import decode_name, element, encode_name, parse

# What XML can carry, without what its readers make of line ends and we of spaces around.
LETTERS = st.characters(
    blacklist_categories=("Cs", "Cc", "Zs", "Zl", "Zp", "Cn", "Co"), blacklist_characters="\x00"
)
TEXT = st.text(LETTERS, min_size=1, max_size=30)
NOT_IN_XML = "[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]"
KEYS = st.text(LETTERS, min_size=1, max_size=20).filter(
    lambda key: key.isprintable() and key not in ("@class", "class")
)
LABEL = st.from_regex(r"[a-z0-9](?:[a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
SERVICES = st.one_of(LABEL, st.tuples(LABEL, LABEL).map("/".join))
PAIRS = st.dictionaries(KEYS, TEXT, max_size=5)
PORTS = st.tuples(
    st.builds(Port, st.integers(1, 65_535), st.booleans()),
    st.builds(Port, st.integers(1, 65_535), st.booleans()),
)


@st.composite
def infos(draw: st.DrawFn) -> InstanceInfo:
    port, secure_port = draw(PORTS)
    center = draw(st.sampled_from(("MyOwn", "Amazon", "Netflix")))
    return InstanceInfo(
        app=app_of(draw(SERVICES)),
        instance_id=draw(st.text(LETTERS, min_size=1, max_size=8)),
        host_name=draw(TEXT),
        ip_addr=draw(st.sampled_from(("10.0.0.1", "::1", "host.example"))),
        status=draw(st.sampled_from(STATUSES)),
        port=port,
        secure_port=secure_port,
        country_id=draw(st.integers(0, 300)),
        data_center=DataCenter(
            center,
            draw(st.sampled_from((class_of(center), "com.example.Center"))),
            draw(PAIRS),
        ),
        renewal_s=draw(st.integers(1, 600)),
        duration_s=draw(st.integers(1, 86_400)),
        metadata=draw(st.one_of(PAIRS, PAIRS.map(lambda p: {f"eureka.{k}": p[k] for k in p}))),
        texts=draw(st.dictionaries(st.sampled_from(TEXTS), TEXT)),
        is_coordinating=draw(st.booleans()),
        dirty_ms=draw(st.integers(1, 2**45)),
    )


def refusal(read: Callable[[], object]) -> Invalid | None:
    try:
        read()
    except Invalid as error:
        return error
    return None


def by_json(info: InstanceInfo) -> InstanceInfo:
    fields: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(fields_of(info)))
    return info_of(fields)


def by_xml(info: InstanceInfo) -> InstanceInfo:
    text = element("instance", fields_of(info))
    ElementTree.fromstring(text)  # it is XML to others too
    root, fields = parse(text.encode())
    assert root == "instance"
    return info_of(fields)


@given(infos())
def test_json_says_all_of_it(info: InstanceInfo) -> None:
    assert by_json(info) == info


@given(infos())
def test_xml_says_all_of_it(info: InstanceInfo) -> None:
    assert by_xml(info) == info
    assert by_xml(by_json(info)) == info


@given(infos())
def test_our_instance_says_all_of_it(info: InstanceInfo) -> None:
    health, why = health_of(info.status)
    record = Record(instance_of(info), health, 0, why, False, "lease", 1)

    status = status_of(record, is_resolvable=True)
    again = shown(record, status=status, override="UNKNOWN", ttl_ms=info.duration_s * 1000)
    assert again == info
    check_instance(record.instance)


@given(
    st.builds(
        Instance,
        SERVICES,
        st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._:@-]{0,20}", fullmatch=True),
        st.sampled_from(("10.0.0.1", "::1", "host.example")),
        st.integers(1, 65_535),
        weight=st.one_of(st.none(), st.floats(0, 100)),
        zone=TEXT,
        version=st.one_of(st.just(""), TEXT),
        tags=st.lists(TEXT, max_size=3).map(tuple),
        meta=st.dictionaries(st.one_of(KEYS, KEYS.map("eureka.".__add__)), st.text(max_size=9)),
        ports=st.dictionaries(TEXT, st.integers(1, 65_535), max_size=3),
    ),
    st.sampled_from(("starting", "passing", "warning", "critical", "draining")),
    st.booleans(),
)
def test_an_instance_of_any_door_is_shown_in_both_forms(
    instance: Instance, health: Any, is_resolvable: bool
) -> None:
    record = Record(instance, health, 5, "override: ", False, "", 1)

    status = status_of(record, is_resolvable=is_resolvable)
    info = shown(record, status=status, override=override_of(health, record.why), ttl_ms=0)

    by_json(info)
    by_xml(info)
    assert info.app == app_of(instance.service)


@given(st.text(max_size=40))
def test_every_instance_id_comes_back_from_ours(instance_id: str) -> None:
    if refusal(lambda: id_of(instance_id)) is not None:
        assert len(instance_id.encode()) * 3 > 120
        return
    check_id(id_of(instance_id))
    assert instance_id_of(id_of(instance_id)) == instance_id


@given(st.from_regex(r"(eureka:)?[A-Za-z0-9][A-Za-z0-9._:@-]{0,20}(@[0-9A-F]{2})?", fullmatch=True))
def test_every_id_of_ours_comes_back_from_eureka_s(own_id: str) -> None:
    assert id_of(instance_id_of(own_id)) == own_id


@given(SERVICES)
def test_every_service_comes_back_from_its_application(service: str) -> None:
    app = app_of(service)

    assert app == app.upper()
    assert service_of(app) == service_of(app.lower()) == service


@given(st.text(max_size=20))
def test_a_name_of_an_application_is_a_service_or_refused(app: str) -> None:
    refused = refusal(lambda: check_service(service_of(app)))

    assert refused is None or refused.field == "app"


@given(st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=20))
def test_every_key_is_the_name_of_an_element(key: str) -> None:
    name = encode_name(key)

    assert ElementTree.fromstring(f"<{name}/>").tag == name
    assert decode_name(name) == key


@given(st.text())
def test_any_text_makes_xml_that_reads_the_same_or_says_what_it_lost(text: str) -> None:
    read = ElementTree.fromstring(element("x", {"@a": text, "$": text}))

    kept = re.sub(NOT_IN_XML, "\ufffd", text)
    assert (read.text or "") == read.attrib["a"] == kept


@given(st.binary(max_size=200))
def test_what_is_no_xml_is_refused_in_words(body: bytes) -> None:
    refused = refusal(lambda: parse(body))

    assert refused is None or refused.field == "body"


def test_a_key_that_looks_like_an_attribute_is_none() -> None:
    fields = {"metadata": {"@a": "1", "$": "2"}}

    assert parse(element("instance", fields).encode()) == ("instance", fields)


FIELDS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=5,
)
NAMES = ("app", "port", "leaseInfo", "metadata", "dataCenterInfo", "status", "lastDirtyTimestamp")


@given(st.dictionaries(st.sampled_from(NAMES), FIELDS))
def test_any_fields_are_an_instance_or_are_refused_in_words(fields: dict[str, Any]) -> None:
    usual = fields_of(
        InstanceInfo(
            app="A", instance_id="a", host_name="h", ip_addr="10.0.0.1", port=Port(1, True)
        )
    )
    refused = refusal(lambda: instance_of(info_of({**usual, **fields})))

    assert refused is None or refused.message


@pytest.mark.parametrize(
    ("own", "override", "status"),
    [
        ("UP", "UNKNOWN", "UP"),
        ("UP", "DOWN", "DOWN"),
        ("UP", "OUT_OF_SERVICE", "OUT_OF_SERVICE"),
        ("OUT_OF_SERVICE", "UP", "UP"),
        ("DOWN", "UP", "DOWN"),
        ("STARTING", "UP", "STARTING"),
        ("DOWN", "OUT_OF_SERVICE", "DOWN"),
    ],
)
def test_an_override_counts_for_those_who_would_serve(own: Any, override: Any, status: str) -> None:
    health, why = overridden(own, override)
    record = Record(Instance("a", "a", "h", 1), health, 0, why, False, "", 1)

    assert status_of(record, is_resolvable=True) == status
    assert override_of(health, why) == override


@pytest.mark.parametrize("port", [8080, "8080", {"$": 8080}, {"$": "8080", "@enabled": True}])
def test_a_port_may_be_written_as_each_client_does(port: object) -> None:
    info = info_of(
        {
            "app": "a",
            "hostName": "h",
            "ipAddr": "10.0.0.1",
            "port": port,
            "dataCenterInfo": {"name": "MyOwn"},
            "overriddenStatus": "DOWN",
        }
    )

    assert (info.port, info.secure_port) == (Port(8080, True), SECURE_PORT)
    assert (info.instance_id, info.overridden) == ("h", "DOWN")
