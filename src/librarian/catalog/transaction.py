"""One open transaction and the repositories that work within it."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from librarian.catalog.accounts import Accounts
from librarian.catalog.alerts import Alerts
from librarian.catalog.arrivals import Arrivals
from librarian.catalog.batches import Batches
from librarian.catalog.claims import Claims
from librarian.catalog.clearing import Clearing
from librarian.catalog.confirmations import Confirmations
from librarian.catalog.copies_due import CopiesDue
from librarian.catalog.drives import Drives
from librarian.catalog.events import Events
from librarian.catalog.files import Files
from librarian.catalog.incoming import IncomingTransfers
from librarian.catalog.instances import Instances
from librarian.catalog.loading import Loading
from librarian.catalog.manifests import Manifests
from librarian.catalog.misfits import Misfits
from librarian.catalog.notifications import Notifications
from librarian.catalog.offers import Offers
from librarian.catalog.outbox import Outbox
from librarian.catalog.outgoing import OutgoingTransfers
from librarian.catalog.pairings import Pairings
from librarian.catalog.peers import Peers
from librarian.catalog.receptions import Receptions
from librarian.catalog.remote_instances import RemoteInstances
from librarian.catalog.rules import Rules
from librarian.catalog.search import Search
from librarian.catalog.site import SiteIdentity
from librarian.catalog.stopped import StoppedCopies
from librarian.catalog.stores import StoreRows
from librarian.catalog.suspects import Suspects
from librarian.catalog.tallies import Tallies
from librarian.catalog.told import Told
from librarian.catalog.waiting import WaitingCopies

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection


class Transaction:
    """What ``catalog.begin()`` and ``catalog.read()`` give: one repository per noun."""

    def __init__(self, connection: AsyncConnection, dialect: str) -> None:
        self._connection = connection
        self._dialect = dialect

    @cached_property
    def site(self) -> SiteIdentity:
        """Who this catalog belongs to, its generation and epoch."""
        return SiteIdentity(self._connection, self._dialect)

    @cached_property
    def accounts(self) -> Accounts:
        """Who may call us."""
        return Accounts(self._connection, self._dialect)

    @cached_property
    def peers(self) -> Peers:
        """Other librarians."""
        return Peers(self._connection, self._dialect)

    @cached_property
    def pairings(self) -> Pairings:
        """How sites come to know each other."""
        return Pairings(self._connection, self._dialect)

    @cached_property
    def stores(self) -> StoreRows:
        """Local places for payloads, as rows."""
        return StoreRows(self._connection, self._dialect)

    @cached_property
    def drives(self) -> Drives:
        """Stores that are carried by hand."""
        return Drives(self._connection, self._dialect)

    @cached_property
    def manifests(self) -> Manifests:
        """What drives carry to peers."""
        return Manifests(self._connection, self._dialect)

    @cached_property
    def clearing(self) -> Clearing:
        """What rests on drives that were released or lost."""
        return Clearing(self._connection, self._dialect)

    @cached_property
    def files(self) -> Files:
        """Immutable named payloads and their member listings."""
        return Files(self._connection, self._dialect)

    @cached_property
    def search(self) -> Search:
        """Finding files."""
        return Search(self._connection, self._dialect)

    @cached_property
    def instances(self) -> Instances:
        """Copies on our stores."""
        return Instances(self._connection, self._dialect)

    @cached_property
    def remote_instances(self) -> RemoteInstances:
        """Copies at peers, as they told us."""
        return RemoteInstances(self._connection, self._dialect)

    @cached_property
    def incoming(self) -> IncomingTransfers:
        """Files on their way in."""
        return IncomingTransfers(self._connection, self._dialect)

    @cached_property
    def claims(self) -> Claims:
        """Incoming transfers in the hands of ingest."""
        return Claims(self._connection, self._dialect)

    @cached_property
    def offers(self) -> Offers:
        """Clones on their way in, as their senders move them."""
        return Offers(self._connection, self._dialect)

    @cached_property
    def receptions(self) -> Receptions:
        """Drives of peers that are being read."""
        return Receptions(self._connection, self._dialect)

    @cached_property
    def outgoing(self) -> OutgoingTransfers:
        """Files on their way to peers."""
        return OutgoingTransfers(self._connection, self._dialect)

    @cached_property
    def confirmations(self) -> Confirmations:
        """What peers say of what drives carry."""
        return Confirmations(self._connection, self._dialect)

    @cached_property
    def batches(self) -> Batches:
        """Transfers that one engine moves together."""
        return Batches(self._connection, self._dialect)

    @cached_property
    def rules(self) -> Rules:
        """Replication rules."""
        return Rules(self._connection, self._dialect)

    @cached_property
    def copies_due(self) -> CopiesDue:
        """Copies that files still owe."""
        return CopiesDue(self._connection, self._dialect)

    @cached_property
    def waiting(self) -> WaitingCopies:
        """Copies that may be offered now."""
        return WaitingCopies(self._connection, self._dialect)

    @cached_property
    def loading(self) -> Loading:
        """Copies that are made onto stores and drives of ours."""
        return Loading(self._connection, self._dialect)

    @cached_property
    def misfits(self) -> Misfits:
        """Files that stores of ours cannot keep."""
        return Misfits(self._connection, self._dialect)

    @cached_property
    def suspects(self) -> Suspects:
        """Copies of ours that may be bad."""
        return Suspects(self._connection, self._dialect)

    @cached_property
    def stopped(self) -> StoppedCopies:
        """Copies due that go no further by themselves."""
        return StoppedCopies(self._connection, self._dialect)

    @cached_property
    def outbox(self) -> Outbox:
        """What peers must learn."""
        return Outbox(self._connection, self._dialect)

    @cached_property
    def told(self) -> Told:
        """What peers were told about our copies."""
        return Told(self._connection, self._dialect)

    @cached_property
    def alerts(self) -> Alerts:
        """What a person must look at."""
        return Alerts(self._connection, self._dialect)

    @cached_property
    def notifications(self) -> Notifications:
        """What people are told where they are."""
        return Notifications(self._connection, self._dialect)

    @cached_property
    def events(self) -> Events:
        """The story of everything."""
        return Events(self._connection, self._dialect)

    @cached_property
    def arrivals(self) -> Arrivals:
        """What came for rules, by day."""
        return Arrivals(self._connection, self._dialect)

    @cached_property
    def tallies(self) -> Tallies:
        """Totals that people look at."""
        return Tallies(self._connection, self._dialect)
