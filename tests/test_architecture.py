"""The house rules that a machine can see: layers, sizes, and who may import what."""

import ast
import gc
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

TOP = Path(__file__).parents[1]
SOURCE = TOP / "src" / "librarian"
MODULES = sorted(SOURCE.rglob("*.py"))
MOST_LINES = 400

#: The second part of a module's name → its layer. Imports go downwards; units of one layer do not meet.
LAYERS = {
    **dict.fromkeys(("errors", "states", "names", "timing", "checksum", "guard", "globs", "__init__"), 0),
    **dict.fromkeys(("turns", "windows", "writeback", "mounts"), 0),
    **dict.fromkeys(("wire", "policies", "quantities", "settings"), 1),
    **dict.fromkeys(("catalog", "stores", "transfers", "client", "checksum_pool", "bells", "notifier", "logs"), 2),
    **dict.fromkeys(("checksum_worker", "pulse", "meters", "writers", "doors", "keys", "patience", "mailboxes"), 2),
    "manifest": 2,
    **dict.fromkeys(("auth", "peers", "health", "ownership", "replication", "preflight", "entry_points", "card"), 3),
    **dict.fromkeys(("gates", "outcomes", "owing", "reasons", "notifying", "confirming", "carriage"), 3),
    "site": 4,
    **dict.fromkeys(("room", "openings", "intake", "verdicts", "notices", "steering"), 5),
    **dict.fromkeys(("drives", "adopting", "sealing", "inspecting", "releasing", "journeys", "leavings"), 5),
    **dict.fromkeys(("hearing", "pairing", "joining", "rotation", "checkup", "probing"), 5),
    **dict.fromkeys(("suitcase", "receiving", "accepting"), 5),
    **dict.fromkeys(("tasks", "web"), 6),
    **dict.fromkeys(("serve", "cli", "admin", "demo"), 7),
}
#: Units of one layer that may know each other, and in which direction; all of layer 0 may.
NEIGHBOURS = {
    ("settings", "policies"),
    ("settings", "quantities"),
    ("policies", "quantities"),
    ("wire", "policies"),
    ("checksum_pool", "checksum_worker"),
    ("checksum_worker", "checksum"),
    ("manifest", "keys"),
    ("adopting", "drives"),
    ("adopting", "pairing"),
    ("sealing", "adopting"),
    ("sealing", "drives"),
    ("releasing", "adopting"),
    ("releasing", "drives"),
    ("journeys", "drives"),
    ("releasing", "leavings"),
    ("sealing", "pairing"),
    ("cli", "serve"),
    ("admin", "serve"),
    ("admin", "cli"),
    ("demo", "serve"),
    ("demo", "cli"),
    ("peers", "entry_points"),
    ("outcomes", "replication"),
    ("replication", "owing"),
    ("reasons", "owing"),
    ("ownership", "replication"),
    ("reasons", "gates"),
    ("reasons", "carriage"),
    ("intake", "room"),
    ("intake", "openings"),
    ("openings", "room"),
    ("verdicts", "room"),
    ("joining", "pairing"),
    ("rotation", "hearing"),
    ("hearing", "probing"),
    ("hearing", "verdicts"),
    ("hearing", "notices"),
    ("peers", "entry_points"),
    ("card", "entry_points"),
    ("steering", "intake"),
    ("receiving", "room"),
    ("accepting", "suitcase"),
    ("confirming", "notifying"),
    ("confirming", "outcomes"),
    ("accepting", "intake"),
    ("accepting", "receiving"),
}
DATABASE = {"sqlalchemy", "alembic", "asyncpg", "aiosqlite", "sqlite3"}
LIGHT = {"__init__.py", "checksum.py", "names.py", "errors.py", "states.py"}
HEAVY = {"pydantic", "sqlalchemy", "aiohttp", "alembic", "typer", "rich", "globus_sdk", "cryptography"}
#: Where nothing that is given a transaction writes.
ONLY_READS = {"tasks/seal.py"}
MAY_CATCH_ALL = {"tasks/supervisor.py", "web/adapter.py", "web/around.py"}


def unit_of(path: Path) -> str:
    """``catalog`` for everything in catalog/, ``errors`` for errors.py."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports_of(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if base == "librarian":
                yield from ((node.lineno, f"librarian.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, base


@cache
def parsed(path: Path) -> ast.Module:
    # CPython 3.11 loses count of its recursion when the garbage collector runs finalizers inside ast.parse.
    gc.disable()
    try:
        return ast.parse(path.read_text(), filename=str(path))
    finally:
        gc.enable()


def where(path: Path, line: int) -> str:
    return f"{path.relative_to(TOP)}:{line}"


def test_every_unit_has_a_layer():
    unknown = sorted({unit_of(path) for path in MODULES} - set(LAYERS))

    assert unknown == [], "give them a layer in tests/test_architecture.py"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_go_downwards(path):
    here = unit_of(path)
    wrong = []
    for line, name in imports_of(parsed(path)):
        if not name.startswith("librarian.") or (there := name.split(".")[1]) not in LAYERS or there == here:
            continue
        level, other = LAYERS[here], LAYERS[there]
        if other > level or (other == level and level > 0 and (here, there) not in NEIGHBOURS):
            wrong.append(f"{where(path, line)}: {here} (layer {level}) imports {there} (layer {other})")

    assert wrong == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_only_the_catalog_speaks_to_databases(path):
    if unit_of(path) == "catalog":
        return

    wrong = [where(path, line) for line, name in imports_of(parsed(path)) if name.split(".")[0] in DATABASE]

    assert wrong == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_nothing_is_imported_inside_a_function(path):
    if path.name == "__main__.py":
        return

    wrong = [
        where(path, inner.lineno)
        for outer in ast.walk(parsed(path))
        if isinstance(outer, (ast.FunctionDef, ast.AsyncFunctionDef))
        for inner in ast.walk(outer)
        if isinstance(inner, (ast.Import, ast.ImportFrom))
    ]

    assert wrong == []


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_only_the_outermost_loops_catch_everything(path):
    if str(path.relative_to(SOURCE)) in MAY_CATCH_ALL:
        return

    wrong = [
        where(path, node.lineno)
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException")))
        # Undoing and raising again is not catching.
        and not any(isinstance(inner, ast.Raise) and inner.exc is None for inner in ast.walk(node))
    ]

    assert wrong == []


def writing(tree: ast.AST) -> Iterator[ast.AST]:
    """What runs before some transaction is committed: functions that are given it, and blocks that begin it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef) and any(each.arg == "tx" for each in node.args.args):
            yield node
        if isinstance(node, ast.AsyncWith) and any(
            isinstance(call, ast.Attribute) and call.attr == "begin"
            for item in node.items
            for call in ast.walk(item.context_expr)
        ):
            yield node


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_no_bell_rings_before_the_commit_that_its_hearer_must_see(path):
    if str(path.relative_to(SOURCE)) in ONLY_READS:
        return

    wrong = [
        where(path, inner.lineno)
        for outer in writing(parsed(path))
        for inner in ast.walk(outer)
        if isinstance(inner, ast.Attribute) and inner.attr == "ring"
    ]

    assert wrong == []


def test_what_each_checksum_worker_imports_is_light():
    wrong = [
        where(SOURCE / name, line)
        for name in sorted(LIGHT)
        for line, imported in imports_of(parsed(SOURCE / name))
        if imported.split(".")[0] in HEAVY
    ]

    assert wrong == []


def test_no_file_is_longer_than_a_person_reads():
    everything = [*MODULES, *sorted((TOP / "tests").rglob("*.py")), *sorted((TOP / "benchmarks").rglob("*.py"))]

    long = {str(path.relative_to(TOP)): lines for path in everything if (lines := count_lines(path)) > MOST_LINES}

    assert long == {}, f"split what is longer than {MOST_LINES} lines along a natural seam"


def count_lines(path: Path) -> int:
    return len(path.read_text().splitlines())
