"""Rules: which files must get a copy where."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librarian import owing, replication
from librarian.catalog.records import Happening
from librarian.errors import BadName, BadRequest, Conflict, NotFound
from librarian.names import RuleName
from librarian.policies import RulePolicy
from librarian.states import DueState, Role, RuleWay
from librarian.web import rule_reasons
from librarian.web.route import Answer, Body, Call, Query, Route
from librarian.wire.rules import RemoveQuery, RuleDescription, RuleList, RuleRemoval, RuleWhy, WhyQuery

if TYPE_CHECKING:
    from librarian.catalog.records import Rule
    from librarian.catalog.transaction import Transaction
    from librarian.site import Site

_ADMIN: Final = frozenset({Role.ADMIN})
#: States of a copy that is on its way, or delivered and not confirmed.
_UNDER_WAY: Final = (DueState.SENDING, DueState.AWAITING)


async def list_rules(call: Call[None, None]) -> Answer:
    """Every rule, by name."""
    async with call.site.catalog.read() as tx:
        rules = await tx.rules.all()
    return Answer(body=RuleList(rules=[describe(rule) for rule in rules if rule.is_enabled]))


async def show_rule(call: Call[None, None]) -> Answer:
    """One rule."""
    async with call.site.catalog.read() as tx:
        return Answer(body=describe(await _existing(tx, call)))


async def put_rule(call: Call[RulePolicy, None]) -> Answer:
    """Make a rule, or change it: files that are here already are looked at by and by. A repeat changes nothing."""
    name, policy, site = RuleName(call.request.match_info["name"]), call.body, call.site
    if policy.from_store is not None and policy.from_store not in {store.name for store in site.stores.fixed()}:
        raise BadRequest(f"there is no store {policy.from_store!r}", remedy="See 'store list' for the names.")
    async with site.catalog.begin() as tx:
        if policy.peer is not None:
            await tx.peers.get(policy.peer)
        if policy.copies == "each":
            await _require_stores(tx, policy)
        known = await tx.rules.find(name)
        if known is not None and known.is_enabled:
            _refuse_of_settings(known)
        await replication.put_rule(tx, name, policy=policy, who=call.caller.name)
        answer = describe(await _existing(tx, call))
    _go_on(site)
    return Answer(body=answer)


async def _require_stores(tx: Transaction, policy: RulePolicy) -> None:
    known = await tx.stores.by_name()
    for name in owing.named_stores(policy):
        if name not in known:
            raise NotFound(f"there is no store '{name}'", remedy="See 'store list' and 'drive list' for the names.")


async def remove_rule(call: Call[None, RemoveQuery]) -> Answer:
    """Remove a rule: nothing is owed to it any more. What is on its way arrives all the same."""
    if call.query.dry_run:
        async with call.site.catalog.read() as tx:
            rule = await _existing(tx, call)
            _refuse_of_settings(rule)
            return Answer(body=await _removal(tx, rule, is_dry_run=True))
    async with call.site.catalog.begin() as tx:
        rule = await _existing(tx, call)
        _refuse_of_settings(rule)
        removal = await _removal(tx, rule, is_dry_run=False)
        await tx.rules.switch_off(rule.id)
        await tx.copies_due.waive(rule.id)
        await tx.events.tell([Happening(subject=f"rule:{rule.name}", what="removed", who=call.caller.name)])
    return Answer(body=removal)


async def explain_rule(call: Call[None, WhyQuery]) -> Answer:
    """Why a rule's files go or do not go, and by which engine."""
    async with call.site.catalog.read() as tx:
        rule = await _existing(tx, call)
        why = await rule_reasons.explain(tx, call.site, rule, describe(rule), file=call.query.file)
    return Answer(body=why)


def describe(rule: Rule) -> RuleDescription:
    """*rule* as it is told."""
    after, until = rule.backfill_after, rule.backfill_until
    return RuleDescription(
        name=rule.name,
        version=rule.version,
        policy=owing.policy_of(rule),
        is_from_settings=rule.is_from_settings,
        applies=rule.peer_id is not None or rule.way is RuleWay.LOCAL,
        is_backfilling=after is not None,
        backfilled=1.0 if after is None else after / max(until, 1),
        created_at=rule.created_at,
    )


async def _existing(tx: Transaction, call: Call[Body, Query]) -> Rule:
    asked = call.request.match_info["name"]
    try:
        rule = await tx.rules.find(RuleName(asked))
    except BadName as error:
        raise NotFound(f"no rule has such a name: {error.message}", remedy="List the rules.") from error
    if rule is None or not rule.is_enabled:
        raise NotFound(f"no rule is called {asked!r}", remedy="See 'rule list' for the names.")
    return rule


def _refuse_of_settings(rule: Rule) -> None:
    if rule.is_from_settings:
        raise Conflict(
            f"the rule {rule.name!r} is made in the settings", remedy="Change the settings, and restart the server."
        )


async def _removal(tx: Transaction, rule: Rule, *, is_dry_run: bool) -> RuleRemoval:
    groups = await tx.waiting.groups(rule.id)
    moving = [group for group in groups if group.state in _UNDER_WAY]
    return RuleRemoval(
        name=rule.name,
        is_dry_run=is_dry_run,
        waived_files=sum(group.files for group in groups),
        waived_bytes=sum(group.bytes for group in groups),
        under_way_files=sum(group.files for group in moving),
        under_way_bytes=sum(group.bytes for group in moving),
    )


def _go_on(site: Site) -> None:
    for bell in ("backfill", "send", "load"):
        site.bells.ring(bell)


ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="GET",
        path="/api/v1/rules",
        handler=list_rules,
        summary="Every replication rule",
        roles=_ADMIN,
        answer=RuleList,
        tag="rules",
    ),
    Route(
        method="GET",
        path="/api/v1/rules/{name}",
        handler=show_rule,
        summary="One replication rule",
        roles=_ADMIN,
        answer=RuleDescription,
        refusals=(NotFound,),
        tag="rules",
    ),
    Route(
        method="PUT",
        path="/api/v1/rules/{name}",
        handler=put_rule,
        summary="Make or change a replication rule",
        roles=_ADMIN,
        body=RulePolicy,
        answer=RuleDescription,
        refusals=(NotFound, Conflict),
        tag="rules",
    ),
    Route(
        method="DELETE",
        path="/api/v1/rules/{name}",
        handler=remove_rule,
        summary="Remove a replication rule, or tell what that would mean",
        roles=_ADMIN,
        query=RemoveQuery,
        answer=RuleRemoval,
        refusals=(NotFound, Conflict),
        tag="rules",
    ),
    Route(
        method="GET",
        path="/api/v1/rules/{name}/why",
        handler=explain_rule,
        summary="Why a rule's files go or do not go, and by which engine",
        roles=_ADMIN,
        query=WhyQuery,
        answer=RuleWhy,
        refusals=(NotFound,),
        tag="rules",
    ),
)
