"""Every setting, policy, route, command, error and method stands in the reference."""

import dataclasses
import inspect
import re
from pathlib import Path

import pytest

import librarian.client
from librarian import errors, manifest, policies
from librarian.admin import reference
from librarian.cli.terminal import run_app
from librarian.client import Address, Librarian, LibrarianClient
from librarian.client.connections import NamedConnection
from librarian.settings import load_settings
from librarian.settings.reference import rows as setting_rows
from librarian.web.openapi import path_of
from librarian.web.table import ALL_ROUTES
from librarian.wire.manifest import Entry, Head, Seal
from tests.docs.pages import DOCS, blocks, rows, section

PAGES = DOCS / "reference"
ENTRIES = [entry for entry in reference.entries() if not entry.is_group]
CLIENT = PAGES / "client.md"


#: A command as messages and remedies quote it, up to its options and values.
_QUOTED = re.compile(r"'((?:python -m librarian\.admin|librarian)(?: [a-z]+)+)")


def public(kind):
    return [name for name in vars(kind) if not name.startswith("_")]


def descendants(kind):
    for below in kind.__subclasses__():
        yield below
        yield from descendants(below)


ERRORS = sorted(
    (kind for kind in descendants(errors.LibrarianError) if kind.__module__ == errors.__name__),
    key=lambda kind: kind.__name__,
)


def test_the_page_of_the_commands_is_what_the_commands_say():
    assert (PAGES / "commands.md").read_text() == reference.page(), (
        "run: python -m librarian.admin.reference > docs/reference/commands.md"
    )


def test_every_command_that_a_message_names_is_one():
    code = "".join(module.read_text() for module in Path(librarian.__file__).parent.rglob("*.py"))

    named = set(_QUOTED.findall(code))

    assert named > {"librarian search"}
    assert named - {entry.path for entry in reference.entries()} == set()


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.path)
def test_every_command_has_an_example_of_itself(entry):
    assert [example for example in entry.examples if entry.path.removeprefix("python -m ").split()[0] in example]
    assert any(entry.path.rpartition(" ")[2] in example for example in entry.examples)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.path)
def test_every_command_says_what_each_option_means(entry):
    assert [each.name for each in (*entry.arguments, *entry.options) if not each.help] == []


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.path)
def test_every_command_stands_on_the_page_with_its_options(entry):
    told = section(PAGES / "commands.md", f"### `{entry.path}`")

    assert [option for option in entry.words if f"`{option}`" not in told] == []


def test_the_exit_codes_are_those_of_the_errors():
    told = {int(cells[0]) for cells in rows((PAGES / "commands.md").read_text()) if cells[0].isdigit()}

    assert told == {kind.exit_code for kind in ERRORS} | {0, 130}
    assert "0 done, 2 caller, 3 unavailable, 4 integrity, 70 bug" in inspect.getdoc(run_app)


def test_every_setting_stands_in_its_section():
    page = PAGES / "settings.md"

    missing = [
        f"{row.section}.{row.key}"
        for row in setting_rows()
        if f"| `{row.key}` |" not in section(page, f"## `{row.section}`" if row.section else "## Top level")
    ]

    assert missing == []


def test_the_example_of_the_settings_can_be_read(tmp_path):
    (example,) = blocks(PAGES / "settings.md", "toml")
    (tmp_path / "site.toml").write_text(example.text)

    settings = load_settings(tmp_path / "site.toml")

    assert (settings.name, settings.stores[0].name, settings.rules[0].peer) == ("chajnantor", "fast", "nersc")


def test_every_policy_stands_in_the_settings():
    documented = {row.key for row in setting_rows()}
    models = [kind for _, kind in inspect.getmembers(policies, inspect.isclass) if kind.__name__.endswith("Policy")]

    assert len(models) > 3
    assert [key for kind in models for key in kind.model_fields if key not in documented] == []


@pytest.mark.parametrize("route", ALL_ROUTES, ids=lambda route: f"{route.method} {path_of(route)}")
def test_every_route_stands_on_the_page(route):
    assert f"### {route.method} {path_of(route)}\n" in (PAGES / "http-api.md").read_text()


@pytest.mark.parametrize("name", librarian.client.__all__)
def test_every_name_of_the_client_is_told(name):
    assert re.search(rf"`{name}\b", CLIENT.read_text())


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in (Librarian, LibrarianClient) for name in public(kind)], ids=str
)
def test_every_method_of_the_client_is_told(kind, name):
    assert re.search(rf"\b{name}\(|`{name}`", CLIENT.read_text())


@pytest.mark.parametrize("kind", [librarian.client.Uploaded, librarian.client.Downloaded, librarian.client.Verified])
def test_every_field_of_a_result_is_told(kind):
    (told,) = [cells for cells in rows(section(CLIENT, "## Results")) if cells[0] == f"`{kind.__name__}`"]

    assert re.findall(r"`(\w+)`", told[1]) == [field.name for field in dataclasses.fields(kind)]


def test_the_fields_of_progress_its_phases_and_those_of_an_address_are_told():
    text = CLIENT.read_text()
    names = [field.name for kind in (librarian.client.Progress, Address) for field in dataclasses.fields(kind)]

    assert [name for name in [*names, *librarian.client.Phase.__members__] if not re.search(rf"\b{name}\b", text)] == []


def test_every_key_of_a_named_connection_is_told():
    told = section(CLIENT, "### client.toml")

    assert [key for key in NamedConnection.model_fields if f"`{key}`" not in told] == []


@pytest.mark.parametrize("kind", ERRORS, ids=lambda kind: kind.__name__)
def test_every_error_is_told_with_its_code_status_and_exit_code(kind):
    (told,) = [cells for cells in rows(section(CLIENT, "## Errors")) if cells[0].strip("*`") == kind.__name__]

    assert told[1:4] == [f"`{kind.code}`", str(kind.status), str(kind.exit_code)]


def test_what_the_examples_of_the_client_import_is_there():
    lines = [line for block in blocks(CLIENT, "python") for line in block.text.splitlines() if "import" in line]

    assert lines
    for line in lines:
        exec(line, {})


def test_the_schema_of_a_manifest_is_that_of_its_lines():
    assert (PAGES / "manifest.schema.json").read_text() == manifest.schema(), (
        "run: python -m librarian.manifest > docs/reference/manifest.schema.json"
    )


@pytest.mark.parametrize("kind", [Head, Entry, Seal], ids=lambda kind: kind.__name__)
def test_every_field_of_a_manifest_is_told(kind):
    told = (PAGES / "manifest.md").read_text()

    assert [name for name, field in kind.model_fields.items() if f"`{field.alias or name}`" not in told] == []
