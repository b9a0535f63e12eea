"""The stores of a site."""

import shutil
from pathlib import Path

import pytest

from librarian.errors import NotFound, StoreUnavailable
from librarian.names import StoreName
from librarian.stores.base import StoreSpec
from librarian.stores.local import LocalStore
from librarian.stores.registry import Stores

FAST, SLOW = StoreName("fast"), StoreName("slow")


def a_store(folder: Path, name: StoreName) -> LocalStore:
    return LocalStore(StoreSpec(name=name, root=folder / name / "root", staging=folder / name / "staging"))


@pytest.fixture
async def stores(tmp_path):
    stores = Stores([a_store(tmp_path, FAST), a_store(tmp_path, SLOW)])
    yield stores
    await stores.close()


async def test_an_unknown_name_is_answered_with_the_known_ones(stores: Stores):
    with pytest.raises(NotFound) as refusal:
        stores.lookup("fats")

    assert "fast, slow" in refusal.value.remedy
    assert FAST in stores
    assert stores.lookup(SLOW).name == SLOW


async def test_one_store_that_cannot_be_opened_does_not_keep_the_others(stores: Stores, tmp_path):
    (tmp_path / SLOW / "root").mkdir(parents=True)
    (tmp_path / SLOW / "root" / "old").touch()

    answers = await stores.open_all({}, generation=1)

    assert isinstance(answers[FAST], str)
    assert isinstance(answers[SLOW], StoreUnavailable)
    assert [store.name for store in stores.writable()] == [FAST]
    assert len(stores.all()) == len(stores) == 2


async def test_a_store_that_comes_back_is_taken_back(stores: Stores, tmp_path):
    await stores.open_all({}, generation=1)
    away = tmp_path / "away"
    shutil.move(tmp_path / FAST, away)

    gone = await stores.probe()
    shutil.move(away, tmp_path / FAST)
    back = await stores.probe()

    assert gone[FAST] is not None
    assert gone[SLOW] is None
    assert back == {FAST: None, SLOW: None}
    assert len(stores.writable()) == 2


async def test_a_store_that_the_catalog_knows_is_not_made_anew(stores: Stores):
    answers = await stores.open_all({FAST: "6b1f0b1e-3a4b-4a53-9d0c-0d8f0b6d3f11"}, generation=1)

    assert isinstance(answers[FAST], StoreUnavailable)
    assert isinstance(answers[SLOW], str)
