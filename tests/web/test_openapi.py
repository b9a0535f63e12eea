"""The API's description: complete, valid, offline."""

import json
import re
from http import HTTPMethod
from pathlib import Path

import pytest

from librarian.web import openapi, reference
from librarian.web.route import with_heads
from librarian.web.table import ALL_ROUTES

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "http-api.md"


@pytest.fixture(scope="module")
def document():
    return openapi.Description(ALL_ROUTES).document


def operations(document):
    return [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def references_in(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references_in(value)
    elif isinstance(node, list):
        for value in node:
            yield from references_in(value)


def test_every_route_is_described(document):
    described = {f"{method.upper()} {path}" for path, method, _ in operations(document)}

    assert described == {f"{route.method} {openapi.path_of(route)}" for route in with_heads(ALL_ROUTES)}
    assert all(route.method in HTTPMethod.__members__ for route in ALL_ROUTES)


def test_every_reference_leads_somewhere(document):
    components = document["components"]

    missing = [
        each for each in set(references_in(document)) if each.split("/")[3] not in components[each.split("/")[2]]
    ]

    assert missing == []


def test_every_operation_has_a_name_of_its_own(document):
    names = [operation["operationId"] for _, _, operation in operations(document)]

    assert len(names) == len(set(names))


def test_every_operation_has_a_summary_a_tag_and_a_documented_handler(document):
    poor = [
        operation["operationId"]
        for _, _, operation in operations(document)
        if not (operation["summary"] and operation["tags"] and operation["description"])
    ]

    assert poor == []
    assert [route.path for route in ALL_ROUTES if not route.handler.__doc__] == []


def test_head_is_described_wherever_get_is_with_the_same_parameters(document):
    pairs = [(methods["get"], methods["head"]) for methods in document["paths"].values() if "get" in methods]

    assert any(get.get("parameters") for get, _ in pairs)
    assert [get.get("parameters") for get, _ in pairs] == [head.get("parameters") for _, head in pairs]


def test_a_head_without_a_get_says_what_it_tells(document):
    lonely = [methods["head"] for methods in document["paths"].values() if "head" in methods and "get" not in methods]

    assert lonely
    assert all("have arrived" in head["summary"] for head in lonely)


def test_every_placeholder_is_a_parameter(document):
    for path, _, operation in operations(document):
        parameters = {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}

        assert parameters == set(re.findall(r"{(\w+)}", path))


def test_every_refusal_of_every_route_is_described_with_its_code(document):
    for route in ALL_ROUTES:
        responses = document["paths"][openapi.path_of(route)][route.method.lower()]["responses"]

        missing = [
            kind.code for kind in route.refusals if f"`{kind.code}`" not in responses[str(kind.status)]["description"]
        ]

        assert missing == []


def test_routes_that_need_an_account_say_so(document):
    for route in ALL_ROUTES:
        operation = document["paths"][openapi.path_of(route)][route.method.lower()]

        assert bool(operation["security"]) is bool(route.roles)
        assert ("401" in operation["responses"]) is bool(route.roles)


async def test_the_description_is_served_to_anybody(live_server):
    reply = await live_server.call("GET", "/openapi.json", user=None)

    assert reply.json["openapi"] == "3.1.0"
    assert reply.json == json.loads(openapi.Description(ALL_ROUTES).raw)


async def test_the_page_and_all_it_needs_come_from_here_alone(live_server):
    page = await live_server.call("GET", "/docs", user=None)
    parts = re.findall(r'(?:src|href)="([^"]+)"', page.raw.decode())

    replies = {part: await live_server.call("GET", f"/{part}", user=None) for part in parts}

    assert len(parts) == 4
    assert {reply.status for reply in replies.values()} == {200}
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "unsafe-eval" not in page.headers["Content-Security-Policy"]


@pytest.mark.parametrize("part", ["nothing.js", "README.md", "..%2Fapp.py", "LICENSE", "%2e%2e"])
async def test_nothing_but_the_parts_of_the_page_is_served(live_server, part):
    reply = await live_server.call("GET", f"/docs/{part}", user=None)

    assert reply.status == 404


def test_the_reference_page_is_what_the_route_table_says():
    assert PAGE.read_text() == reference.page(), "run: python -m librarian.web.reference > docs/reference/http-api.md"
