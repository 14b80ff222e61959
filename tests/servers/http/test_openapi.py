"""What ``/openapi.json`` says is what is served."""

import inspect
from typing import Any, get_type_hints

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.routing import Route
from tests.servers.http.world import INSTANCE, World, of, served

from waypost.errors import Invalid
from waypost.model import check_id, check_service
from waypost.servers.http.app import App
from waypost.servers.http.bodies import ID_SCHEMA, SERVICE_SCHEMA
from waypost.servers.http.routes import OPERATIONS


@served
async def test_every_route_is_described_and_nothing_else(world: World) -> None:
    document = await world.get("/openapi.json")
    routes = App(world.registry)._router.routes

    served_paths = {route.path for route in routes if isinstance(route, Route)}
    in_namespaces = {path for path in served_paths if "{namespace}/" in path}
    assert document["paths"].keys() == served_paths - in_namespaces
    assert {path.replace("{namespace}/", "") for path in in_namespaces} == {
        path for path in document["paths"] if "{service}" in path
    }


@served
async def test_every_method_is_described_and_nothing_else(world: World) -> None:
    document = await world.get("/openapi.json")

    for path, described in document["paths"].items():
        filled = path.format(service="web", id="a", check="c")
        allowed = set((await world.ask("BREW", filled, 405)).headers["allow"].split(", "))
        assert {method.upper() for method in described} == allowed - {"HEAD"}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
def test_a_handler_takes_the_body_that_its_operation_names(operation: Any) -> None:
    hints = get_type_hints(operation.handler)

    assert hints["body"] is (operation.body or type(None))
    assert list(inspect.signature(operation.handler).parameters) == ["call", "body"]


def validator(document: Any, name: str) -> Any:
    return jsonschema_rs.validator_for(
        {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
    )


@served
async def test_answers_are_as_described(world: World) -> None:
    document = await world.get("/openapi.json")
    batch = {"items": [{"op": "register", "service": "a", "id": "b", **INSTANCE}]}
    answers = {
        "Registered": await world.register("web", "a", port=1),
        "Done": await world.post(of("web") + "/instances/a/renew"),
        "DrainReport": await world.post(of("web") + "/instances/a/drain"),
        "BatchReport": await world.post("/api/v1/batch", batch),
        "ServicesAnswer": await world.get("/api/v1/services"),
        "ServiceAnswer": await world.get(of("web") + "?health=any"),
        "NodeStatus": await world.get("/api/v1/status"),
        "Problem": await world.get("/nope", 404),
    }

    for name, answer in answers.items():
        validator(document, name).validate(answer)
        assert answer.keys() <= document["components"]["schemas"][name]["properties"].keys()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("port", 0),
        ("port", 65_536),
        ("host", "a b"),
        ("host", ""),
        ("weight", -1),
        ("weight", 65_536),
        ("zone", "x" * 129),
        ("tags", [""]),
        ("tags", ["x"] * 65),
        ("meta", {"": "x"}),
        ("meta", {"k": "x" * 513}),
        ("ports", {"a": 0}),
        ("ports", {"": 1}),
        ("ttl", 0.4),
        ("ttl", -1),
        ("ttl", 86_401),
        ("health", "fine"),
        ("why", "x" * 513),
        ("incarnation", -1),
        ("incarnation", 1 << 53),
        ("unknown", 1),
    ],
)
@served
async def test_what_the_description_rules_out_is_refused(
    world: World, field: str, value: object
) -> None:
    document = await world.get("/openapi.json")
    body = {**INSTANCE, field: value}

    assert not validator(document, "Registration").is_valid(body)
    await world.put(of("web") + "/instances/a", body, 400)


@given(st.from_regex(SERVICE_SCHEMA["pattern"].replace("$", r"\Z")))
def test_a_service_name_as_described_is_taken(name: str) -> None:
    check_service(name)


@given(st.from_regex(ID_SCHEMA["pattern"].replace("$", r"\Z")))
def test_an_id_as_described_is_taken(name: str) -> None:
    check_id(name)


@given(st.text(alphabet="abz019AZ._:@-/ \n", max_size=70))
def test_names_are_described_as_they_are_checked(name: str) -> None:
    for check, schema in ((check_service, SERVICE_SCHEMA), (check_id, ID_SCHEMA)):
        try:
            check(name)
            is_taken = True
        except Invalid:
            is_taken = False
        assert jsonschema_rs.is_valid(schema, name) == is_taken
