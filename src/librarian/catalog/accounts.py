"""Accounts: who may call us."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from librarian.catalog.records import Account, Login
from librarian.catalog.repository import Repository
from librarian.catalog.schema import AccountRow
from librarian.errors import Conflict, NotFound
from librarian.names import AccountId, AccountName
from librarian.states import Role
from librarian.timing import utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import RowMapping

_COLUMNS = (
    AccountRow.id,
    AccountRow.name,
    AccountRow.roles,
    AccountRow.is_enabled,
    AccountRow.version,
    AccountRow.created_at,
)


def _account(found: RowMapping) -> Account:
    return Account(
        id=AccountId(found["id"]),
        name=AccountName(found["name"]),
        roles=frozenset(Role(role) for role in found["roles"].split()),
        is_enabled=found["is_enabled"],
        version=found["version"],
        created_at=found["created_at"],
    )


def _pack_roles(roles: Iterable[Role]) -> str:
    return " ".join(sorted(roles))


class Accounts(Repository):
    """Who may call us."""

    async def all(self) -> tuple[Account, ...]:
        """Every account, by name."""
        found = await self._connection.execute(select(*_COLUMNS).order_by(AccountRow.name))
        return tuple(_account(row) for row in found.mappings())

    async def count(self) -> int:
        """How many accounts there are."""
        return int(await self._connection.scalar(select(func.count()).select_from(AccountRow)) or 0)

    async def get(self, name: str) -> Account:
        """The account called *name*.

        Raises
        ------
        NotFound
            There is none.
        """
        account = await self.find(name)
        if account is None:
            raise NotFound(f"no account is called {name!r}", remedy="See 'account list' for the names.")
        return account

    async def find(self, name: str) -> Account | None:
        """The account called *name*, if there is one."""
        row = (await self._connection.execute(select(*_COLUMNS).where(AccountRow.name == name))).first()
        return None if row is None else _account(row._mapping)

    async def login_of(self, name: str) -> Login | None:
        """The account called *name* and the hashes of its passwords, for the doorkeeper alone."""
        statement = select(*_COLUMNS, AccountRow.password_hash, AccountRow.next_hash).where(AccountRow.name == name)
        row = (await self._connection.execute(statement)).first()
        if row is None:
            return None
        return Login(account=_account(row._mapping), password_hash=row.password_hash, next_hash=row.next_hash)

    async def prepare(self, name: str, *, next_hash: str) -> None:
        """Let another password of the account *name* be valid beside the one it has.

        Raises
        ------
        NotFound
            There is no such account.
        """
        account = await self.get(name)
        await self._connection.execute(
            update(AccountRow).where(AccountRow.id == account.id).values(next_hash=next_hash)
        )

    async def promote(self, name: str, *, next_hash: str) -> Account | None:
        """The prepared password was seen to work: it is the only one from now on. None: there is another."""
        row = (
            await self._connection.execute(
                update(AccountRow)
                .where(AccountRow.name == name, AccountRow.next_hash == next_hash)
                .values(password_hash=next_hash, next_hash=None, version=AccountRow.version + 1)
                .returning(*_COLUMNS)
            )
        ).first()
        return None if row is None else _account(row._mapping)

    async def create(self, name: AccountName, *, password_hash: str, roles: frozenset[Role]) -> Account:
        """Write a new account, enabled.

        Raises
        ------
        Conflict
            An account of that name exists.
        """
        insert = sqlite.insert if self._is_sqlite else postgresql.insert
        statement = insert(AccountRow).values(
            name=name,
            password_hash=password_hash,
            roles=_pack_roles(roles),
            is_enabled=True,
            version=1,
            created_at=utc_now(),
        )
        created = await self._connection.execute(
            statement.on_conflict_do_nothing(index_elements=["name"]).returning(*_COLUMNS)
        )
        row = created.first()
        if row is None:
            raise Conflict(f"an account called {name!r} exists", remedy="Change it, or choose another name.")
        return _account(row._mapping)

    async def change(
        self,
        name: str,
        *,
        roles: frozenset[Role] | None = None,
        password_hash: str | None = None,
        is_enabled: bool | None = None,
    ) -> Account:
        """Change what is given and leave the rest; the version grows, so that no cached login survives.

        Raises
        ------
        NotFound
            There is no such account.
        Conflict
            It is the last enabled admin, and would no longer be one.
        """
        before = await self.get(name)
        loses_admin = Role.ADMIN in before.roles and (
            is_enabled is False or (roles is not None and Role.ADMIN not in roles)
        )
        if before.is_enabled and loses_admin:
            await self._refuse_if_last_admin(before)
        values: dict[str, object] = {"version": AccountRow.version + 1}
        if roles is not None:
            values["roles"] = _pack_roles(roles)
        if password_hash is not None:
            values |= {"password_hash": password_hash, "next_hash": None}
        if is_enabled is not None:
            values["is_enabled"] = is_enabled
        await self._connection.execute(update(AccountRow).where(AccountRow.id == before.id).values(values))
        return await self.get(name)

    async def _refuse_if_last_admin(self, account: Account) -> None:
        # The rows are locked in one order: else two admins could disable each other at the same time.
        found = await self._connection.execute(
            select(*_COLUMNS).where(AccountRow.is_enabled).order_by(AccountRow.id).with_for_update()
        )
        admins = [other for other in map(_account, found.mappings()) if Role.ADMIN in other.roles]
        if all(other.id == account.id for other in admins):
            raise Conflict(
                f"{account.name!r} is the last enabled admin", remedy="Give another account the role 'admin' first."
            )
