"""Where things are at Globus: the collections of our stores, the paths of items, and which of them a text speaks of."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from librarian.states import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path, PurePosixPath

    from librarian.names import StoreName
    from librarian.transfers.base import Item

#: What may follow a path in a text without being part of it.
_PATH_ENDS: Final = re.compile(r"""[/"'\\\n\r\t ,;:)\]}>]|\Z""")
#: The folder of an item at the receiver, as part of a path.
_TOKEN: Final = re.compile(r"/([0-9a-f]{32})(?![0-9a-f])")


@dataclass(frozen=True, kw_only=True)
class Collection:
    """Where one of our stores is found at Globus."""

    store: StoreName
    collection: str
    #: The store's root as the collection sees it, and as we do.
    root: PurePosixPath
    folder: Path

    def path_of(self, source: Path) -> str | None:
        """*source* as the collection sees it; None when it is on another store."""
        return str(self.root / source.relative_to(self.folder)) if source.is_relative_to(self.folder) else None


@dataclass(frozen=True, kw_only=True)
class Load:
    """One item, and its two paths."""

    item: Item
    source: str
    destination: str


class Places:
    """Finds loads by their paths; what a look-up costs does not grow with the loads."""

    def __init__(self, loads: Sequence[Load]) -> None:
        self._by_token = {load.item.token: load for load in loads}
        self._by_source = {load.source: load for load in loads}
        self._files = {load.destination for load in loads if load.item.kind is Kind.FILE}
        #: Where a source begins, its start does; and it is as long as one of them.
        self._start = _shared_start(self._by_source)
        self._lengths = frozenset(map(len, self._by_source))

    def gone_to(self, text: str) -> list[Load]:
        """The loads that *text* speaks of by where they go."""
        tokens = dict.fromkeys(_TOKEN.findall(text))
        return [self._by_token[token] for token in tokens if token in self._by_token]

    def come_from(self, text: str) -> list[Load]:
        """The loads that *text* speaks of by where they come from: by that path, or by one below."""
        return list({load.source: load for load in self._sources_in(text)}.values())

    def _sources_in(self, text: str) -> Iterator[Load]:
        ends = [match.start() for match in _PATH_ENDS.finditer(text)]
        longest = max(self._lengths, default=0)
        start = text.find(self._start)
        while start >= 0:
            for end in ends[bisect_left(ends, start + len(self._start)) : bisect_left(ends, start + longest + 1)]:
                if end - start in self._lengths and (load := self._by_source.get(text[start:end])) is not None:
                    yield load
            start = text.find(self._start, start + 1)

    def above(self, source: str) -> Load | None:
        """The load that comes from *source*, or of which that is a member."""
        path = source
        while path and path not in self._by_source:
            path = path.rpartition("/")[0]
        return self._by_source.get(path)

    def is_file_at(self, destination: str) -> bool:
        """Whether a whole file, and not the member of a book, goes to *destination*."""
        return destination in self._files


def _shared_start(texts: Mapping[str, Load]) -> str:
    """What all *texts* begin with: as much as the first and the last of them share."""
    first, last = min(texts, default=""), max(texts, default="")
    shared = next((at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    return first[:shared]
