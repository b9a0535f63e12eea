"""Globs: one meaning everywhere, that of fnmatch."""

import fnmatch
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from librarian.errors import BadRequest
from librarian.globs import LONGEST, Glob, after_prefix

TRICKY = "ab-]![^*?/\\x"


@given(pattern=st.text(TRICKY, min_size=1, max_size=9), name=st.text(TRICKY, max_size=6))
@example(pattern="[]a]", name="]")
@example(pattern="[!]a]", name="b")
@example(pattern="[z-a]", name="z")
@example(pattern="[!z-a]", name="z")
@example(pattern="a[", name="a[")
@example(pattern="**a**", name="ba/a")
def test_a_glob_matches_what_fnmatch_matches(pattern, name):
    assert Glob(pattern).matches(name) == fnmatch.fnmatchcase(name, pattern)


@given(pattern=st.text(min_size=1, max_size=12), name=st.text(max_size=12))
def test_any_text_is_either_refused_or_matched_as_fnmatch_does(pattern, name):
    try:
        glob = Glob(pattern)
    except BadRequest:
        return

    assert glob.matches(name) == fnmatch.fnmatchcase(name, pattern)


@pytest.mark.parametrize("pattern", ["", "x" * (LONGEST + 1), "a\nb", "a\0", "\ud800"])
def test_a_pattern_that_no_name_can_match_is_refused(pattern):
    with pytest.raises(BadRequest):
        Glob(pattern)


@pytest.mark.parametrize(
    ("pattern", "prefix", "is_exact", "is_prefix"),
    [
        ("2026/book", "2026/book", True, False),
        ("2026/*", "2026/", False, True),
        ("2026/*/x", "2026/", False, False),
        ("*", "", False, True),
        ("*x", "", False, False),
        ("[a]b", "", False, False),
        ("a?", "a", False, False),
    ],
)
def test_the_plain_start_of_a_pattern_is_known(pattern, prefix, is_exact, is_prefix):
    glob = Glob(pattern)

    assert (glob.prefix, glob.is_exact, glob.is_prefix) == (prefix, is_exact, is_prefix)


def test_many_stars_take_no_longer_than_one():
    glob = Glob("*a" * 30 + "*b")
    started = time.perf_counter()

    assert not glob.matches("a" * 1024)
    assert time.perf_counter() - started < 1


@given(prefix=st.text(min_size=1, max_size=5), rest=st.text(max_size=5))
@example(prefix="\U0010ffff", rest="x")
@example(prefix="a\U0010ffff", rest="")
@example(prefix="\ud7ff", rest="\ue000")
def test_everything_with_a_prefix_sorts_before_its_end(prefix, rest):
    end = after_prefix(prefix)

    assert end is None or prefix <= prefix + rest < end


def test_no_end_is_taken_from_the_surrogates():
    assert after_prefix("\ud7ff") == "\ue000"
