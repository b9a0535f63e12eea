"""What must hold of a site at every moment, and once all is quiet; read from its catalog and its disk."""

import sqlite3
from dataclasses import dataclass, field
from pathlib import Path

from librarian.checksum import Checksum, measure_blocking
from librarian.states import BATCH_MOVES, INCOMING_MOVES, OUTGOING_MOVES, BatchState, TransferState

_MOVES = {
    "incoming_transfers": (TransferState, INCOMING_MOVES),
    "outgoing_transfers": (TransferState, OUTGOING_MOVES),
    "batches": (BatchState, BATCH_MOVES),
}
_PRESENT = (
    "SELECT f.name, f.checksum, f.size FROM files f JOIN instances i ON i.file_id = f.id WHERE i.presence = 'present'"
)
_STANDING = (
    "SELECT f.name, f.checksum FROM files f JOIN instances i ON i.file_id = f.id"
    " WHERE i.presence IN ('present', 'suspect')"
)
_REMOTE = (
    "SELECT f.name, f.checksum, p.name AS peer FROM remote_instances r JOIN files f ON f.id = r.file_id"
    " JOIN peers p ON p.id = r.peer_id WHERE r.is_held"
)
_DUES = (
    "SELECT f.name, p.name AS peer, d.state, d.code, d.reason, d.attempts FROM copies_due d"
    " JOIN files f ON f.id = d.file_id JOIN peers p ON p.id = d.peer_id"
)
_TRANSFERS = (
    "SELECT f.name, p.name AS peer, o.uuid, o.state, o.code, o.reason FROM outgoing_transfers o"
    " JOIN files f ON f.id = o.file_id JOIN peers p ON p.id = o.peer_id"
)


def _reachable(moves, start):
    found, waiting = {start}, [start]
    while waiting:
        for target in moves[waiting.pop()] - found:
            found.add(target)
            waiting.append(target)
    return found


@dataclass
class Ledger:
    """What was seen of one site so far."""

    name: str
    database: Path
    root: Path
    staging: Path
    files: dict = field(default_factory=dict)
    states: dict = field(default_factory=dict)

    def forget(self) -> None:
        """The catalog is another one now: a backup was put in its place."""
        self.files.clear()
        self.states.clear()

    def ask(self, question: str) -> list[dict]:
        connection = sqlite3.connect(self.database)
        try:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(question)]
        finally:
            connection.close()

    @property
    def present(self) -> dict[str, dict]:
        return {row["name"]: row for row in self.ask(_PRESENT)}

    @property
    def standing(self) -> set[tuple[str, str]]:
        """(name, checksum) of what is there, be it in doubt."""
        return {(row["name"], row["checksum"]) for row in self.ask(_STANDING)}

    @property
    def remote(self) -> list[dict]:
        return self.ask(_REMOTE)

    @property
    def dues(self) -> list[dict]:
        return self.ask(_DUES)

    @property
    def outgoing(self) -> list[dict]:
        return self.ask(_TRANSFERS)

    def check_step(self) -> None:
        """Nothing that was written down has changed in a way that it may not."""
        now = {row["id"]: row for row in self.ask("SELECT * FROM files")}
        for id_, row in self.files.items():
            assert now.get(id_) == row, f"{self.name}: a file row changed from {row} to {now.get(id_)}"
        self.files = now
        for table, (kind, moves) in _MOVES.items():
            for row in self.ask(f"SELECT id, state FROM {table}"):
                before, after = self.states.get((table, row["id"])), kind(row["state"])
                assert before is None or after in _reachable(moves, before), (
                    f"{self.name}: {table} {row['id']} went from {before} to {after}"
                )
                self.states[table, row["id"]] = after

    def check_bytes(self) -> None:
        """Every present copy is what its file says."""
        for name, row in self.present.items():
            path = self.root / name
            measured = measure_blocking(path, Checksum(row["checksum"]).algorithm)
            assert measured.checksum == row["checksum"], f"{self.name}: {name} is not {row['checksum']}"

    def staged(self) -> set[str]:
        """What stands in staging. What no row knows of, after a backup was put back, housekeeping puts aside later."""
        return {entry.name for entry in self.staging.iterdir() if not entry.name.startswith(".")}

    def check_quiet(self, stuck: set[tuple[str, str]]) -> None:
        """Nothing is left that works, waits or lies about, but for arrivals that are *stuck*: (peer, name)."""
        name = self.name
        batches = self.ask("SELECT * FROM batches WHERE state NOT IN ('delivered', 'failed', 'cancelled')")
        assert not batches, f"{name}: batches are still under way: {batches}"
        arriving = self.ask(
            "SELECT t.uuid, t.name, t.token, p.name AS peer, t.state, t.code, t.reason FROM incoming_transfers t"
            " LEFT JOIN peers p ON p.id = t.peer_id WHERE t.state IN ('initiated', 'ongoing', 'staged', 'ingesting')"
        )
        waiting = {row["token"] for row in arriving if (row["peer"], row["name"]) in stuck}
        arriving = [row for row in arriving if row["token"] not in waiting]
        assert not arriving, f"{name}: transfers are still arriving: {arriving}"
        untold = self.ask("SELECT * FROM outbox WHERE set_aside_because IS NULL")
        assert not untold, f"{name}: notices wait: {untold}"
        blocked = {(row["name"], row["peer"]) for row in self.dues}
        live = [
            row
            for row in self.outgoing
            if row["state"] not in ("completed", "failed", "cancelled") and (row["name"], row["peer"]) not in blocked
        ]
        assert not live, f"{name}: transfers are still leaving: {live}"
        left = self.staged() - waiting
        assert not left, f"{name}: staging holds {left}"
        doubted = self.ask("SELECT * FROM instances WHERE presence = 'suspect'")
        assert not doubted, f"{name}: nobody has read again: {doubted}"
        (held,) = self.ask("SELECT coalesce(sum(files), 0) AS files FROM tallies WHERE subject = 'held'")
        assert held["files"] == len(self.present), f"{name} counts {held['files']} files, there are {self.present}"
        for row in self.ask(
            "SELECT t.subject, t.files, (SELECT count(*) FROM copies_due d WHERE 'due:' || d.peer_id = t.subject"
            " AND d.state != 'quarantined') AS n FROM tallies t WHERE t.subject LIKE 'due:%'"
        ):
            assert row["files"] == row["n"], f"{name}: {row['subject']} counts {row['files']}, there are {row['n']}"
