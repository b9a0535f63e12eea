"""Accounts: who may call this site."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Self

from pydantic import Field, model_validator

from librarian.states import Role
from librarian.wire.base import AccountText, Request, Response, Secret

RoleSet = Annotated[frozenset[Role], Field(min_length=1, max_length=8, description="What the account may do.")]
Password = Annotated[
    Secret,
    Field(
        description="8 characters to 256 bytes of UTF-8, without control characters.",
        json_schema_extra={"minLength": 8, "maxLength": 256},
    ),
]


class CreateAccount(Request):
    """A new account."""

    name: AccountText
    password: Password
    roles: RoleSet


class ChangeAccount(Request):
    """Change what is given; the rest stays."""

    password: Password | None = None
    roles: RoleSet | None = None
    is_enabled: bool | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.password is None and self.roles is None and self.is_enabled is None:
            raise ValueError("nothing to change: give 'password', 'roles' or 'is_enabled'")
        return self


class AccountDescription(Response):
    """An account; its password is known to nobody but its holder."""

    name: str
    roles: list[Role]
    is_enabled: bool
    created_at: datetime


class AccountList(Response):
    """Every account, by name."""

    accounts: list[AccountDescription]
