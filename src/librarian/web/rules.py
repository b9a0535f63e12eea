"""Rules: which files must get a copy where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librarian import replication
from librarian.states import Role
from librarian.web.route import Answer, Call, Route
from librarian.wire.rules import RuleDescription, RuleList

if TYPE_CHECKING:
    from librarian.catalog.records import Rule


async def list_rules(call: Call[None, None]) -> Answer:
    """Every rule, by name."""
    async with call.site.catalog.read() as tx:
        rules = await tx.rules.all()
    return Answer(body=RuleList(rules=[_describe(rule) for rule in rules]))


def _describe(rule: Rule) -> RuleDescription:
    return RuleDescription(
        name=rule.name,
        version=rule.version,
        policy=replication.policy_of(rule),
        is_from_settings=rule.is_from_settings,
        is_enabled=rule.is_enabled,
        applies=rule.is_enabled and rule.peer_id is not None,
        is_backfilling=rule.backfill_after is not None,
        created_at=rule.created_at,
    )


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="GET",
        path="/api/v1/rules",
        handler=list_rules,
        summary="Every replication rule",
        roles=frozenset({Role.ADMIN}),
        answer=RuleList,
        tag="rules",
    ),
)
