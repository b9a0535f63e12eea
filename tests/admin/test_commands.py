"""What all admin commands have in common: help with an example, JSON, and exit codes."""

import json

import pytest
import typer

from librarian.admin import commands


def every_command():
    """``account create`` and so on, with what typer knows about each."""
    tree = typer.main.get_command(commands.app)
    waiting = [((name,), command) for name, command in tree.commands.items()]
    while waiting:
        path, command = waiting.pop()
        below = getattr(command, "commands", {})
        waiting += [((*path, name), inner) for name, inner in below.items()]
        if not below:
            yield path, command


COMMANDS = dict(sorted(every_command()))


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_helps_with_an_example(admin, path):
    told = admin(*path, "--help")

    assert (told.code, told.err) == (0, "")
    example = told.out.partition("Example: ")[2].partition("\n")[0]
    assert "python -m librarian.admin" in example
    assert " ".join(path) in example


@pytest.mark.parametrize("path", COMMANDS, ids=" ".join)
def test_every_command_speaks_json(path):
    assert "--json" in [option for parameter in COMMANDS[path].params for option in parameter.opts]


@pytest.mark.parametrize("arguments", [[], ["account"], ["database"]])
def test_without_a_command_there_is_help(admin, arguments):
    told = admin(*arguments)

    assert told.code == 2
    assert "Usage: python -m librarian.admin" in told.out + told.err


def test_every_command_that_operators_rely_on_is_there():
    wanted = """account create,account list,account set,account disable,config check,database migrate,database check,
    database backup,peer add,peer list,peer enable,peer disable,peer remove,restored acknowledge,rule list,store list,
    store open,store close,transfer list,transfer show"""

    names = {" ".join(path) for path in COMMANDS}
    assert {name.strip() for name in wanted.split(",")} <= names


def test_a_bug_exits_70_with_a_traceback_and_json(admin, monkeypatch):
    def crash(**_):
        raise RuntimeError("boom")

    monkeypatch.setattr(commands.Target, "choose", crash)

    crashed = admin("status", "--json")

    *traceback, last = crashed.err.splitlines()
    assert crashed.code == 70
    assert "RuntimeError: boom" in "\n".join(traceback)
    assert json.loads(last)["code"] == "bug"
