"""``account``: who may call the site."""

from __future__ import annotations

from typing import Annotated

import typer

from librarian.admin.arguments import STDIN, NewPasswordFile, PasswordFile, checked, read_secret
from librarian.admin.reach import reach
from librarian.cli.terminal import AsJson, Column, Terminal, awaited, new_app
from librarian.errors import BadRequest
from librarian.names import AccountName
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
    password_file: PasswordFile = STDIN,
    as_json: AsJson = False,
) -> None:
    """Create an account. Works before a server was ever started.

    Example: printf secret-phrase | python -m librarian.admin account create ana --role uploader --password-file -
    """
    wanted = checked(CreateAccount, name=name, password=read_secret(password_file, is_new=True), roles=frozenset(role))
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
    terminal = Terminal(is_json=as_json)
    rows = [
        ((a.name, ",".join(a.roles), "yes" if a.is_enabled else "no", terminal.instant(a.created_at)), a)
        for a in found.accounts
    ]
    terminal.table(columns, rows)


@app.command("set")
@awaited
async def change(
    context: typer.Context,
    name: Name,
    role: Annotated[list[Role] | None, typer.Option("--role", help="Replaces all roles.")] = None,
    password_file: NewPasswordFile = None,
    as_json: AsJson = False,
) -> None:
    """Change an account's roles or password.

    Example: python -m librarian.admin account set ana --role reader --password-file -
    """
    if not role and password_file is None:
        raise BadRequest("there is nothing to change", remedy="Give --role or --password-file.")
    body = checked(
        ChangeAccount,
        roles=frozenset(role) if role else None,
        password=None if password_file is None else read_secret(password_file, is_new=True),
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
        return await client.request("PATCH", f"/accounts/{AccountName(name)}", body=body, answer=AccountDescription)


def _tell(account: AccountDescription, *, as_json: bool, done: str) -> None:
    text = f"{done} the account '{account.name}' ({', '.join(account.roles)})."
    Terminal(is_json=as_json).one(account, text=text)
