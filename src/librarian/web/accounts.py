"""Accounts: create, list, change, disable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librarian.catalog.records import Happening
from librarian.errors import Conflict, NotFound
from librarian.names import AccountName
from librarian.states import Role
from librarian.web.route import Answer, Call, Route
from librarian.wire.accounts import AccountDescription, AccountList, ChangeAccount, CreateAccount

if TYPE_CHECKING:
    from librarian.catalog.records import Account


def _describe(account: Account) -> AccountDescription:
    return AccountDescription(
        name=account.name,
        roles=sorted(account.roles),
        is_enabled=account.is_enabled,
        created_at=account.created_at,
    )


async def list_accounts(call: Call[None, None]) -> Answer:
    """Every account, by name."""
    async with call.site.catalog.read() as tx:
        accounts = await tx.accounts.all()
    return Answer(body=AccountList(accounts=[_describe(account) for account in accounts]))


async def describe_account(call: Call[None, None]) -> Answer:
    """One account."""
    async with call.site.catalog.read() as tx:
        account = await tx.accounts.get(call.request.match_info["name"])
    return Answer(body=_describe(account))


async def create_account(call: Call[CreateAccount, None]) -> Answer:
    """Make an account that may log in at once."""
    password_hash = await call.site.doorkeeper.hash(call.body.password.get_secret_value())
    roles = frozenset(call.body.roles)
    async with call.site.catalog.begin() as tx:
        account = await tx.accounts.create(AccountName(call.body.name), password_hash=password_hash, roles=roles)
        await tx.events.tell([_told(call, account.name, "created", " ".join(sorted(roles)))])
    return Answer(body=_describe(account), status=201)


async def change_account(call: Call[ChangeAccount, None]) -> Answer:
    """Change roles, password or whether the account may log in; what was cached of it is forgotten."""
    name = call.request.match_info["name"]
    change = call.body
    password_hash = None
    if change.password is not None:
        password_hash = await call.site.doorkeeper.hash(change.password.get_secret_value())
    try:
        async with call.site.catalog.begin() as tx:
            account = await tx.accounts.change(
                name, roles=change.roles, password_hash=password_hash, is_enabled=change.is_enabled
            )
            await tx.events.tell([_told(call, account.name, what, why) for what, why in _milestones(change)])
    finally:
        # Also when the commit's answer was lost: the change may have happened.
        call.site.doorkeeper.forget(name)
    return Answer(body=_describe(account))


def _milestones(change: ChangeAccount) -> list[tuple[str, str]]:
    told: list[tuple[str, str]] = []
    if change.roles is not None:
        told.append(("roles changed", " ".join(sorted(change.roles))))
    if change.password is not None:
        told.append(("password changed", ""))
    if change.is_enabled is not None:
        told.append(("enabled" if change.is_enabled else "disabled", ""))
    return told


def _told(call: Call, name: str, what: str, why: str) -> Happening:  # type: ignore[type-arg]
    return Happening(subject=f"account:{name}", what=what, who=call.caller.name, why=why)


_ADMIN: Final = frozenset({Role.ADMIN})
ROUTES: Final[tuple[Route, ...]] = (
    Route(
        method="GET",
        path="/api/v1/accounts",
        handler=list_accounts,
        summary="Every account",
        roles=_ADMIN,
        answer=AccountList,
        tag="accounts",
    ),
    Route(
        method="POST",
        path="/api/v1/accounts",
        handler=create_account,
        summary="Create an account",
        roles=_ADMIN,
        body=CreateAccount,
        answer=AccountDescription,
        statuses=(201,),
        refusals=(Conflict,),
        body_limit=64 * 1024,
        tag="accounts",
    ),
    Route(
        method="GET",
        path="/api/v1/accounts/{name}",
        handler=describe_account,
        summary="One account",
        roles=_ADMIN,
        answer=AccountDescription,
        refusals=(NotFound,),
        tag="accounts",
    ),
    Route(
        method="PATCH",
        path="/api/v1/accounts/{name}",
        handler=change_account,
        summary="Change an account's roles or password, disable or enable it",
        roles=_ADMIN,
        body=ChangeAccount,
        answer=AccountDescription,
        refusals=(NotFound, Conflict),
        body_limit=64 * 1024,
        tag="accounts",
    ),
)
