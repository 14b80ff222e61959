"""The OpenAPI 3.1 document of this door, made from its table of operations and its structs."""

import re
from collections.abc import Iterable
from typing import Any, Final

import msgspec

from waypost import __version__
from waypost.servers.http.bodies import ID_SCHEMA, SERVICE_SCHEMA, ChangeEvent
from waypost.servers.http.operations import Operation, Parameter
from waypost.servers.http.problems import PROBLEM_TYPE, Problem

_DESCRIPTIONS: Final = {
    200: "Done.",
    201: "Done, and new.",
    304: "Nothing of it has changed since the answer with that ETag.",
}
_IN_PATH: Final = {
    "service": "A service: its name, or its namespace, a slash and its name.",
    "id": "An instance of it.",
    "check": "A check of that instance.",
}
_SCHEMAS: Final = {"service": SERVICE_SCHEMA, "id": ID_SCHEMA, "check": ID_SCHEMA}


def document(operations: Iterable[Operation]) -> bytes:
    """Describe the operations."""
    operations = tuple(operations)
    structs = _structs_of(operations)
    references, components = msgspec.json.schema_components(
        structs, ref_template="#/components/schemas/{name}"
    )
    by_struct = dict(zip(structs, references, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _told(operation, by_struct)
    return msgspec.json.encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "Waypost",
                "version": __version__,
                "summary": "Service registry and discovery",
            },
            "paths": paths,
            "components": {"schemas": components},
        }
    )


def _structs_of(operations: Iterable[Operation]) -> list[type[msgspec.Struct]]:
    structs: dict[type[msgspec.Struct], None] = {Problem: None, ChangeEvent: None}
    for operation in operations:
        for kind in (operation.body, *operation.answers.values()):
            if isinstance(kind, type):
                structs[kind] = None
    return list(structs)


def _told(operation: Operation, by_struct: dict[Any, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "parameters": [*map(_in_path, _names(operation.path)), *_in_query(operation.parameters)],
        "responses": {
            **{
                str(status): _answer(status, kind, by_struct)
                for status, kind in operation.answers.items()
            },
            "default": {
                "description": "A problem.",
                "content": {PROBLEM_TYPE: {"schema": by_struct[Problem]}},
            },
        },
    }
    if operation.body is not None:
        told["requestBody"] = {
            "required": not operation.is_body_optional,
            "content": {"application/json": {"schema": by_struct[operation.body]}},
        }
    return told


def _answer(status: int, kind: Any, by_struct: dict[Any, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": _DESCRIPTIONS[status]}
    if isinstance(kind, str):
        schema = {"type": "object"} if kind == "application/json" else {"type": "string"}
        answer["content"] = {kind: {"schema": schema}}
    elif kind is not None:
        answer["content"] = {"application/json": {"schema": by_struct[kind]}}
    return answer


def _names(path: str) -> list[str]:
    return re.findall(r"{(\w+)}", path)


def _in_path(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "path",
        "required": True,
        "description": _IN_PATH[name],
        "schema": _SCHEMAS[name],
    }


def _in_query(parameters: Iterable[Parameter]) -> list[dict[str, Any]]:
    """Tell them all but ``meta.*``, whose names OpenAPI has no way to describe."""
    return [
        {
            "name": parameter.name,
            "in": "query",
            "required": False,
            "description": parameter.description,
            "schema": {"type": "array", "items": parameter.schema}
            if parameter.is_repeatable
            else parameter.schema,
        }
        for parameter in parameters
        if parameter.name != "meta.*"
    ]
