"""Every task of a site, for the supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from librarian.tasks.adopt import Adopt
from librarian.tasks.backfill import Backfill
from librarian.tasks.clear import Clear
from librarian.tasks.deliver import Deliver
from librarian.tasks.fetch import Fetch
from librarian.tasks.housekeeping import Housekeeping
from librarian.tasks.ingest import Ingest
from librarian.tasks.join import FinishJoins
from librarian.tasks.load import Load
from librarian.tasks.notify import Notify
from librarian.tasks.plug import Plug
from librarian.tasks.poll import Poll
from librarian.tasks.probe import Probe
from librarian.tasks.receive import Receive
from librarian.tasks.reconcile import Reconcile
from librarian.tasks.reread import Reread
from librarian.tasks.seal import Seal
from librarian.tasks.send import Send
from librarian.tasks.submit import Submit
from librarian.tasks.wipe import Wipe

if TYPE_CHECKING:
    from librarian.site import Site
    from librarian.tasks.supervisor import AnyTask


def all_tasks(site: Site) -> list[AnyTask]:
    """Every task, with its policy from the settings."""
    return [
        Ingest(site, site.settings.ingest),
        Housekeeping(site, site.settings.housekeeping),
        Probe(site),
        Plug(site),
        Adopt(site),
        Seal(site),
        Clear(site),
        Wipe(site),
        Reread(site),
        Receive(site),
        Backfill(site, site.settings.clones),
        Load(site),
        Send(site, site.settings.clones),
        Submit(site, site.settings.clones),
        Poll(site, site.settings.clones),
        Deliver(site, site.settings.clones),
        Reconcile(site, site.settings.clones),
        Fetch(site, site.settings.clones),
        FinishJoins(site),
        Notify(site),
    ]
