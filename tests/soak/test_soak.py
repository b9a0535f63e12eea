"""Two real sites live through random faults; see scripts/soak for more of them."""

import os

import pytest

from tests.soak.story import soak, some_seeds

SEEDS = 20


@pytest.mark.timeout(900)
@pytest.mark.skipif(os.geteuid() != 0, reason="needs: root, to mount a disk that can be filled")
async def test_two_sites_agree_after_random_faults(tmp_path, record_property):
    await soak(some_seeds(SEEDS), tmp_path, lambda words: record_property("said", words))
