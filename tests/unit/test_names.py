"""Names, members, tokens and labels: whatever parses stays below its root, and whatever could escape does not parse."""

import os
import re
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from librarian.errors import BadName
from librarian.names import (
    MEMBER_BYTES,
    NAME_BYTES,
    PART_BYTES,
    AccountName,
    FileName,
    MemberPath,
    RuleName,
    SiteName,
    StoreName,
    Token,
)

ROOT = "/srv/root"
PATHS = [FileName, MemberPath]
LABELS = [SiteName, StoreName, AccountName, RuleName]
#: Text in which everything that paths may trip over is likely.
tricky = st.text(alphabet="./\\~ ab\0\n\r\t\x1b\x7f\x85%\u2024\uff0e\u2215\ufeff\u202e\u0301éé", max_size=24)
anything = st.one_of(tricky, st.text(max_size=40), st.lists(tricky, max_size=6).map("/".join))

ESCAPES = [
    "..",
    "../etc/passwd",
    "../../../../etc/passwd",
    "a/..",
    "a/../..",
    "a/../../b",
    "a/b/../../../c",
    "./a",
    "a/./b",
    "a/.",
    ".",
    "/",
    "//",
    "/etc/passwd",
    "//host/share",
    "a//b",
    "a/",
    "a/b/",
    "",
    "\0",
    "a\0",
    "a\0/../b",
    "..\0",
    "a\nb",
    "a\rb",
    "a\x1b[2Jb",
    "a\x7fb",
    "a\x85b",
    "a\ud800",
    "\udcff",
    os.fsdecode(b"\xff"),
    "x" * (PART_BYTES + 1),
    "ü" * 128,
    "a/" + "x" * (PART_BYTES + 1) + "/b",
]
#: Looks dangerous, and is nothing but a name.
HARMLESS = [
    "...",
    "..a",
    "a..",
    "a..b/c",
    " ",
    "~",
    "~root",
    "-rf",
    "$HOME",
    "`id`",
    "%2e%2e",
    "C:\\",
    "..\\..",
    "\u2024\u2024",
]


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize("text", ESCAPES, ids=repr)
def test_what_could_escape_is_no_path(kind, text):
    with pytest.raises(BadName) as refusal:
        kind(text)

    assert refusal.value.remedy


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize("text", [None, 5, b"a", ["a"], 1.5], ids=repr)
def test_what_is_no_text_is_no_path(kind, text):
    with pytest.raises(BadName):
        kind(text)


@pytest.mark.parametrize("kind", PATHS)
@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_dangerous_is_a_path(kind, text):
    assert kind(text) == text


def parsed(kind, text):
    try:
        return kind(text)
    except BadName:
        return None


@pytest.mark.parametrize("kind", PATHS)
@given(text=anything)
@example(text="a/../b")
@example(text="\u2024\u2024/a")
def test_whatever_parses_stays_below_its_root(kind, text):
    path = parsed(kind, text)

    if path is not None:
        assert os.path.normpath(f"{ROOT}/{path}") == f"{ROOT}/{path}"
        assert os.path.relpath(f"{ROOT}/{path}", ROOT) == path


@pytest.mark.parametrize(("kind", "limit"), [(FileName, NAME_BYTES), (MemberPath, MEMBER_BYTES)])
@given(text=anything)
def test_whatever_parses_can_be_kept_by_every_file_system_and_database(kind, limit, text):
    path = parsed(kind, text)

    if path is not None:
        assert 0 < len(path.encode()) <= limit
        assert all(0 < len(part.encode()) <= PART_BYTES for part in path.split("/"))
        assert not any(unicodedata.category(letter) in ("Cc", "Cs") for letter in path)


@pytest.mark.parametrize("kind", PATHS)
@given(text=anything)
def test_parsing_changes_nothing_and_parsing_again_does_no_more(kind, text):
    path = parsed(kind, text)

    if path is not None:
        assert (path, hash(path)) == (text, hash(text))
        assert kind(path) is path


@pytest.mark.parametrize(("kind", "limit"), [(FileName, NAME_BYTES), (MemberPath, MEMBER_BYTES)])
def test_the_longest_path_parses_and_one_byte_more_does_not(kind, limit):
    longest = "/".join(["x" * 127] * (limit // 128)) + "y"

    assert len(kind(longest)) == limit
    with pytest.raises(BadName):
        kind(longest + "z")


@given(text=anything)
def test_ancestors_are_the_folders_above_a_name(text):
    name = parsed(FileName, text)

    if name is not None:
        assert list(name.ancestors) == [name[:place] for place, each in enumerate(name) if each == "/"]
        assert all(FileName(above) == above for above in name.ancestors)


@pytest.mark.parametrize(
    "name", [".librarian", ".librarian-store", ".librarian/a", ".librarianship", "lost+found", "lost+found/a"]
)
def test_what_belongs_to_the_store_or_its_file_system_is_no_name_of_a_file_but_may_be_a_members(name):
    assert MemberPath(name) == name
    with pytest.raises(BadName, match="reserved"):
        FileName(name)


@pytest.mark.parametrize("name", ["lost+found-2026", "2026/lost+found", "a/.librarian", "\u2028"])
def test_what_is_reserved_at_the_top_alone_is_a_name_below_it(name):
    assert FileName(name) == name


@given(text=st.one_of(st.text(alphabet="0123456789abcdefABCDEFg/.\n", max_size=40), st.text(max_size=40)))
@example(text="0" * 32)
@example(text="0" * 32 + "\n")
@example(text="٠" * 32)
@example(text="a" * 31 + "A")
@example(text="../" + "0" * 29)
def test_a_token_is_32_hexadecimal_digits_and_nothing_else(text):
    is_token = bool(re.fullmatch(r"[0-9a-f]{32}\Z", text))

    assert (parsed(Token, text) is not None) is is_token


@pytest.mark.parametrize("text", [None, 5, b"0" * 32])
def test_what_is_no_text_is_no_token(text):
    with pytest.raises(BadName):
        Token(text)


def test_a_minted_token_parses_and_is_never_minted_again():
    minted = {Token.mint() for _ in range(1000)}

    assert {Token(str(token)) for token in minted} == minted
    assert len(minted) == 1000


@pytest.mark.parametrize(
    ("kind", "first"), [(kind, "a-zA-Z0-9" if kind is StoreName else "a-z0-9") for kind in LABELS], ids=str
)
@given(text=st.one_of(st.text(alphabet="azAZ09._-/\\\n\0é ", max_size=70), st.text(max_size=70)))
@example(text="a" * 63)
@example(text="a" * 64)
@example(text="a\n")
@example(text="..")
def test_a_label_is_a_word_that_can_stand_in_a_path_a_url_and_a_log(kind, first, text):
    is_label = bool(re.fullmatch(rf"[{first}][{first}._-]{{0,62}}\Z", text))

    assert (parsed(kind, text) is not None) is is_label


@pytest.mark.parametrize("kind", LABELS)
@pytest.mark.parametrize("text", [None, 5, b"a"])
def test_what_is_no_text_is_no_label(kind, text):
    with pytest.raises(BadName):
        kind(text)


@pytest.mark.parametrize("text", [".librarian-store", ".librarian/a", "lost+found", "lost+found/a"])
def test_what_belongs_to_a_store_or_its_file_system_is_no_name(text):
    with pytest.raises(BadName, match="reserved"):
        FileName(text)


@pytest.mark.parametrize("text", ["lost+found-2026", "2026/lost+found", "a/.librarian"])
def test_what_is_reserved_at_the_top_alone_is_a_name_elsewhere(text):
    assert FileName(text) == text
