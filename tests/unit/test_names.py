"""Names are value types that cannot escape their root, whatever is tried."""

import os.path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from librarian.errors import BadName
from librarian.names import FileName, MemberPath, RuleName, SiteName, StoreName, Token

PATHS = [FileName, MemberPath]
ESCAPES = [
    "",
    "/",
    "/etc/passwd",
    "..",
    "../a",
    "a/..",
    "a/../b",
    "./a",
    "a/./b",
    "a//b",
    "a/",
    "a\0b",
    "a\nb",
    "a\x7fb",
    "a\x85b",
    "\udcff",
    "x" * 256,
    "é" * 128,
    "/".join(["x" * 200] * 11),
]
LABELS = [SiteName, StoreName, RuleName]
NO_LABELS = ["", ".", "..", ".a", "a/b", "A", "é", "a b", "a\n", "a\0", "-a", "x" * 64, None, 7]

anything = st.text() | st.lists(st.sampled_from(["..", ".", "", "a", "\0", "/", "\\", "~"])).map("/".join)


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize("text", ESCAPES)
def test_what_escapes_or_cannot_be_kept_is_no_path(kind, text):
    with pytest.raises(BadName):
        kind(text)


@pytest.mark.parametrize("text", [".librarian", ".librarian-store", ".librarian/a", "lost+found", "lost+found/a"])
def test_what_belongs_to_the_store_or_its_file_system_is_no_name(text):
    with pytest.raises(BadName, match="reserved"):
        FileName(text)


@pytest.mark.parametrize(
    "text", ["lost+found-2026", "2026/lost+found", "a/.librarian", "...", "~", "-rf", "a\\..\\b", "\u2028"]
)
def test_what_only_looks_strange_is_a_name(text):
    assert FileName(text) == text


@pytest.mark.parametrize("kind", PATHS)
@given(text=anything)
def test_whatever_parses_stays_below_its_root(kind, text):
    try:
        path = kind(text)
    except BadName:
        return

    assert os.path.normpath(f"/root/{path}") == f"/root/{path}"
    assert len(os.fsencode(path)) <= 2048


@given(text=anything)
def test_a_name_lies_below_each_of_its_ancestors_and_below_nothing_else(text):
    try:
        name = FileName(text)
    except BadName:
        return

    assert list(name.ancestors) == [name[:place] for place, each in enumerate(name) if each == "/"]


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("text", NO_LABELS)
def test_what_is_configured_has_a_short_plain_name(kind, text):
    with pytest.raises(BadName):
        kind(text)


@given(text=st.text() | st.from_regex(r"[0-9a-fA-F]{30,34}\n?") | st.none() | st.integers())
def test_nothing_is_a_token_but_32_lowercase_hexadecimal_digits(text):
    try:
        token = Token(text)
    except BadName:
        return

    assert len(token) == 32
    assert set(token) <= set("0123456789abcdef")


def test_minted_tokens_are_tokens_and_differ():
    minted = {Token.mint() for _ in range(100)}

    assert len(minted) == 100
    assert {Token(token) for token in minted} == minted
