"""The pages that a reader finds, and what stands in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

TOP = Path(__file__).parents[2]
DOCS = TOP / "docs"
PAGES = [TOP / "README.md", TOP / "CONTRIBUTING.md", TOP / "changelog.d" / "README.md", *sorted(DOCS.rglob("*.md"))]
#: Written by programs from descriptions in the code.
GENERATED = {DOCS / "reference" / name for name in ("commands.md", "http-api.md", "settings.md")}

#: Also within lists.
_FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, what it holds, and the line of text before it."""

    language: str
    text: str
    before: str


def name_of(page: Path) -> str:
    return str(page.relative_to(TOP))


def blocks(page: Path, *languages: str) -> list[Block]:
    """The fenced blocks of *page* in one of *languages*, in order."""
    return blocks_in(page.read_text(), *languages)


def blocks_in(text: str, *languages: str) -> list[Block]:
    """The fenced blocks of *text* in one of *languages*, in order."""
    found = [
        Block(match[2], dedent(match[3]), next(reversed(text[: match.start()].split()), ""))
        for match in _FENCE.finditer(text)
    ]
    return [block for block in found if block.language in languages]


def prose(page: Path) -> str:
    """*page* without its fenced blocks."""
    return _FENCE.sub("", page.read_text())


def section(page: Path, heading: str) -> str:
    """What stands below *heading*, up to the next heading that is not below it."""
    level = len(heading) - len(heading.lstrip("#"))
    after = page.read_text().split(f"\n{heading}\n", 1)[1]
    return re.split(rf"^#{{1,{level}}} ", after, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> Iterator[list[str]]:
    """The rows of the tables in *text* as cells, without the lines that only draw."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip())[1:-1]]
        if cells and not set("".join(cells)) <= set("-: "):
            yield cells


def anchors(page: Path) -> set[str]:
    """What a link may name behind '#': headings, as code forges write them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
