"""Owing: which copies a rule asks for of a file. No input, no output: rules and files in, copies due out."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from librarian import globs
from librarian.catalog.copies_due import NewDue
from librarian.names import StoreName
from librarian.policies import STORED, RulePolicy
from librarian.states import RuleWay

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import datetime

    from librarian.catalog.records import Rule
    from librarian.names import FileId, FileName


class Debtor(Protocol):
    """A file that may owe copies."""

    @property
    def file_id(self) -> FileId:
        """Its row."""

    @property
    def name(self) -> FileName:
        """What it is called."""

    @property
    def size(self) -> int:
        """In bytes."""


def asked(rule: Rule, file: Debtor, *, stores: Collection[StoreName], not_before: datetime) -> Iterator[NewDue]:
    """The copies that *rule* asks for of *file*, of which there are healthy ones on *stores*.

    That a peer has its copy already is for the database to see.
    """
    policy = policy_of(rule)
    if not matches(policy, name=file.name, stores=stores):
        return
    for store in _wanted(rule, policy, stores):
        yield NewDue(
            file_id=file.file_id,
            rule_id=rule.id,
            way=rule.way,
            peer_id=rule.peer_id,
            store=store,
            size=file.size,
            not_before=not_before,
        )


def _wanted(rule: Rule, policy: RulePolicy, stores: Collection[StoreName]) -> list[StoreName | None]:
    """For each copy the store that it must be on, None where any does."""
    if rule.way is not RuleWay.LOCAL:
        return [] if rule.peer_id is None else [None]
    if policy.copies == "each":
        return [name for name in named_stores(policy) if name not in stores]
    return [] if any(takes(policy, store) for store in stores) else [None]


def policy_of(rule: Rule) -> RulePolicy:
    """What *rule* asks for."""
    return _parse(rule.policy)


@lru_cache(maxsize=1024)
def _parse(policy: str) -> RulePolicy:
    return RulePolicy.model_validate_json(policy, context=STORED)


def matches(policy: RulePolicy, *, name: FileName, stores: Collection[StoreName]) -> bool:
    """Whether *policy* asks for a copy of the file *name* that rests on *stores*."""
    if policy.from_store is not None and policy.from_store not in stores:
        return False
    return any(_glob(pattern).matches(name) for pattern in policy.match)


def takes(policy: RulePolicy, store: StoreName) -> bool:
    """Whether a copy on *store*, one of ours, is what *policy* asks for."""
    return any(_glob(pattern).matches(store) for pattern in policy.stores)


def named_stores(policy: RulePolicy) -> list[StoreName]:
    """The stores that a policy names which asks for a copy on each."""
    return [StoreName.trusted(name) for name in dict.fromkeys(policy.stores)]


@lru_cache(maxsize=1024)
def _glob(pattern: str) -> globs.Glob:
    return globs.Glob(pattern)
