"""``account``: who may call the site."""

from __future__ import annotations

from typing import Annotated

import typer

from librarian.admin.arguments import PasswordFile, checked, read_secret
from librarian.admin.reach import reach
from librarian.cli.terminal import AsJson, Column, Terminal, awaited, instant_text, new_app
from librarian.client import segment
from librarian.states import Role
from librarian.wire.accounts import AccountDescription, AccountList, ChangeAccount, CreateAccount

app = new_app("Who may call the site.")

Name = Annotated[str, typer.Argument(help="The account's name; a peer's account has the peer's site name.")]


@app.command("create")
@awaited
async def create(
    context: typer.Context,
    name: Name,
    role: Annotated[list[Role], typer.Option("--role", help="May be given more than once.")],
    password_file: PasswordFile,
    as_json: AsJson = False,
) -> None:
    """Create an account. Works before a server was ever started.

    Example: printf secret-phrase | python -m librarian.admin account create ana --role uploader --password-file -
    """
    wanted = checked(CreateAccount, name=name, password=read_secret(password_file), roles=frozenset(role))
    async with reach(context.obj) as client:
        account = await client.request("POST", "/accounts", body=wanted, answer=AccountDescription)
    _tell(account, as_json=as_json, done="Created")


@app.command("list")
@awaited
async def list_accounts(context: typer.Context, as_json: AsJson = False) -> None:
    """List every account.

    Example: python -m librarian.admin account list
    """
    async with reach(context.obj) as client:
        found = await client.request("GET", "/accounts", answer=AccountList)
    columns = [Column(title=title) for title in ("name", "roles", "enabled", "created")]
    rows = [
        ((a.name, ",".join(a.roles), "yes" if a.is_enabled else "no", instant_text(a.created_at)), a)
        for a in found.accounts
    ]
    Terminal(is_json=as_json).table(columns, rows)


@app.command("set")
@awaited
async def change(
    context: typer.Context,
    name: Name,
    role: Annotated[list[Role] | None, typer.Option("--role", help="Replaces all roles.")] = None,
    password_file: Annotated[str | None, typer.Option(help="The new password's file; '-' reads stdin.")] = None,
    as_json: AsJson = False,
) -> None:
    """Change an account's roles or password.

    Example: python -m librarian.admin account set ana --role reader
    """
    body = checked(
        ChangeAccount,
        roles=frozenset(role) if role else None,
        password=None if password_file is None else read_secret(password_file),
    )
    _tell(await _change(context, name, body), as_json=as_json, done="Changed")


@app.command("disable")
@awaited
async def disable(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Refuse the account's logins from now on.

    Example: python -m librarian.admin account disable ana
    """
    _tell(await _change(context, name, ChangeAccount(is_enabled=False)), as_json=as_json, done="Disabled")


@app.command("enable")
@awaited
async def enable(context: typer.Context, name: Name, as_json: AsJson = False) -> None:
    """Accept the account's logins again.

    Example: python -m librarian.admin account enable ana
    """
    _tell(await _change(context, name, ChangeAccount(is_enabled=True)), as_json=as_json, done="Enabled")


async def _change(context: typer.Context, name: str, body: ChangeAccount) -> AccountDescription:
    async with reach(context.obj) as client:
        return await client.request("PATCH", f"/accounts/{segment(name)}", body=body, answer=AccountDescription)


def _tell(account: AccountDescription, *, as_json: bool, done: str) -> None:
    text = f"{done} the account '{account.name}' ({', '.join(account.roles)})."
    Terminal(is_json=as_json).one(account, text=text)
