"""Looking for what may be offered reads an index in its order, on both databases: it costs what there is to do."""

import pytest
from sqlalchemy import event, text

from librarian.catalog.loading import ANY_STORE, Owed
from librarian.names import FileId, PeerId, RuleId, StoreId, StoreName
from librarian.timing import utc_now


@pytest.fixture
async def plan_of(site):
    """How the database goes about the statements of *look*, a function of a transaction."""
    engine = site.catalog._engine
    statements = []
    event.listen(engine.sync_engine, "before_cursor_execute", lambda *given: statements.append((given[2], given[3])))

    async def explain(look):
        async with site.catalog.begin() as tx:
            statements.clear()
            await look(tx)
            statement, values = statements[-1]
            raw = (await tx._connection.get_raw_connection()).driver_connection
            if engine.dialect.name == "sqlite":
                rows = await raw.execute_fetchall(f"EXPLAIN QUERY PLAN {statement}", values)
                return "\n".join(str(row[3]) for row in rows)
            # The table is empty, so that reading all of it would always be best.
            await tx._connection.execute(text("SET LOCAL enable_seqscan = off"))
            return "\n".join(row[0] for row in await raw.fetch(f"EXPLAIN {statement}", *values))

    return explain


def _to_load(tx, store, *, since=None):
    return tx.loading.candidates(RuleId(1), store=store, now=utc_now(), since=since, largest=10, limit=10)


@pytest.mark.parametrize(
    "look",
    [
        lambda tx: tx.waiting.peers(utc_now()),
        lambda tx: tx.waiting.rules(PeerId(1), now=utc_now()),
        lambda tx: tx.waiting.sample(RuleId(1), now=utc_now(), limit=10),
        lambda tx: tx.waiting.candidates(RuleId(1), now=utc_now(), limit=10),
        lambda tx: tx.loading.rules(utc_now()),
        lambda tx: _to_load(tx, ANY_STORE),
        lambda tx: _to_load(tx, ANY_STORE, since=utc_now()),
    ],
    ids=["peers", "rules", "sample", "candidates", "rules to load", "copies to load", "new copies to load"],
)
async def test_what_waits_is_found_in_the_index_of_what_is_due(plan_of, look):
    plan = await plan_of(look)

    assert "copies_due_now" in plan
    assert "ORDER BY" not in plan


async def test_copies_for_one_store_are_found_past_those_for_another(plan_of):
    plan = await plan_of(lambda tx: _to_load(tx, StoreId(2)))

    assert "copies_due_on_store" in plan
    assert "ORDER BY" not in plan


@pytest.mark.parametrize(
    "look",
    [
        lambda tx: tx.loading.paid([Owed(file_id=FileId(1), rule_id=RuleId(1), store=StoreName("A07"))]),
        lambda tx: tx.misfits.look_again(),
    ],
    ids=["loaded", "misfits"],
)
async def test_what_becomes_of_certain_files_is_found_by_them(plan_of, look):
    plan = await plan_of(look)

    assert "SCAN copies_due" not in plan
    assert "Seq Scan on copies_due" not in plan
