"""Long lists must not hold up the loop."""

import asyncio

from librarian.turns import PORTION, in_turns


async def test_items_are_made_in_order():
    made = await in_turns(lambda each: each * 2, range(3 * PORTION + 1))

    assert made == [each * 2 for each in range(3 * PORTION + 1)]


async def test_everything_else_has_its_turn_between_portions():
    seen = []

    async def somebody_else():
        for _ in range(3):
            seen.append("else")
            await asyncio.sleep(0)

    other = asyncio.create_task(somebody_else())
    await in_turns(seen.append, range(3 * PORTION))
    await other

    assert [at for at, each in enumerate(seen) if each == "else"] == [PORTION, 2 * PORTION + 1, 3 * PORTION + 2]


async def test_a_short_list_is_made_at_once():
    ready = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(ready.set_result, None)

    await in_turns(str, range(PORTION - 1))

    assert not ready.done()
    await ready
