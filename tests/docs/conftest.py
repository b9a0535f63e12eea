"""Sites for whoever types pages that speak of two."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs.users import User, two_sites


@pytest.fixture
def two(tmp_path: Path) -> Iterator[dict[str, User]]:
    """The two sites of the how-to pages, for one test."""
    with two_sites(tmp_path) as users:
        yield users
