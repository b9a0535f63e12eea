"""The page about held transfers knows every alert that the code can raise."""

import ast
import re

from tests.docs.pages import DOCS, TOP, rows, section

PAGE = DOCS / "how-to" / "when-a-transfer-is-held.md"
TREES = [ast.parse(path.read_text()) for path in sorted((TOP / "src" / "librarian").rglob("*.py"))]


def pattern(text: ast.expr) -> str | None:
    """A text with ``*`` for whatever is put into it; None for what is no text."""
    if isinstance(text, ast.Constant) and isinstance(text.value, str):
        return text.value
    if isinstance(text, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "*" for part in text.values)
    return None


def named_causes() -> dict[str, str]:
    """Causes by the name of the constant, the variable or the function that gives them."""
    found = {}
    for node in [node for tree in TREES for node in ast.walk(tree)]:
        match node:
            case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value) if pattern(value):
                found[name] = pattern(value)
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if pattern(value):
                found[name] = pattern(value)
            case ast.FunctionDef(name=name, body=[*_, ast.Return(value=ast.expr() as value)]) if pattern(value):
                found[name] = pattern(value)
    return found


def troubles() -> set[str]:
    """The causes of what is found out in one place and raised in another."""
    found = set()
    for tree in TREES:
        given = [
            keyword.value
            for call in ast.walk(tree)
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "Trouble"
            for keyword in call.keywords
            if keyword.arg == "cause"
        ]
        names = {value.id for value in given if isinstance(value, ast.Name)}
        for node in ast.walk(tree):
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in names:
                    given.append(value)
        found |= {pattern(value) for value in given if pattern(value)}
    return found


def raised_causes() -> set[str]:
    named = named_causes()
    causes = troubles()
    for call in [node for tree in TREES for node in ast.walk(tree) if isinstance(node, ast.Call)]:
        match call:
            case ast.Call(func=ast.Attribute(attr="raise_alert"), args=[ast.Name(id=name), *_]):
                causes.add(named[name])
            case ast.Call(
                func=ast.Attribute(attr="raise_alert"),
                args=[ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)), *_],
            ):
                causes.add(named[name])
            case ast.Call(func=ast.Attribute(attr="raise_alert"), args=[ast.Attribute(attr="cause"), *_]):
                pass
            case ast.Call(func=ast.Attribute(attr="raise_alert"), args=[cause, *_]):
                causes.add(pattern(cause))
    return causes


def test_every_alert_has_a_row_with_its_cure_and_every_row_is_an_alert():
    told = {cells[0].strip("`"): cells[2] for cells in rows(section(PAGE, "## Every alert, and its cure"))}
    told.pop("cause")

    assert {re.sub(r"<\w+>", "*", cause) for cause in told} == raised_causes()
    assert all(told.values())
