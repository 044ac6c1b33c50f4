"""Markdown pages as their tests see them: code blocks, links and the anchors of headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).resolve().parents[2]
SKIPPED_FOLDERS = frozenset({"build", "dist", "node_modules"})

_PARSER = MarkdownIt("commonmark").enable("table")
_NOT_IN_ANCHORS = re.compile(r"[^\w\- ]")


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: the language that is written behind its fence, and what is in it."""

    line: int
    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class Link:
    """Where a link or a picture points."""

    line: int
    target: str


@dataclass(frozen=True, slots=True)
class Page:
    """One Markdown file.

    Attributes:
        path: Where it is.
        blocks: Its fenced blocks, in order.
        links: Its links and pictures, in order.
        anchors: What a link to one of its headings may name.
    """

    path: Path
    blocks: tuple[Block, ...]
    links: tuple[Link, ...]
    anchors: frozenset[str]

    @property
    def name(self) -> str:
        """Its path from the root of the repository, or as it is elsewhere."""
        return str(self.path.relative_to(ROOT) if self.path.is_relative_to(ROOT) else self.path)


def markdown_files() -> list[Path]:
    """Return every Markdown file of the repository."""
    return sorted(_files(ROOT))


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name in SKIPPED_FOLDERS:
            continue
        if path.is_dir():
            yield from _files(path)
        elif path.suffix == ".md":
            yield path


@cache
def read_page(path: Path) -> Page:
    """Read a Markdown file."""
    tokens = _PARSER.parse(path.read_text(encoding="utf-8"))
    blocks = tuple(
        Block(_line(token), token.info.strip(), token.content)
        for token in tokens
        if token.type in ("fence", "code_block")
    )
    return Page(path, blocks, tuple(_links(tokens)), frozenset(_anchors(tokens)))


def _line(token: Token) -> int:
    return token.map[0] + 1 if token.map else 0


def _links(tokens: list[Token]) -> Iterator[Link]:
    for token in tokens:
        for child in token.children or ():
            target = child.attrGet("href" if child.type == "link_open" else "src")
            if child.type in ("link_open", "image"):
                yield Link(_line(token), str(target))


def _anchors(tokens: list[Token]) -> Iterator[str]:
    """Yield the anchors of headings as GitHub makes them."""
    seen: dict[str, int] = {}
    for position, token in enumerate(tokens):
        if token.type != "heading_open":
            continue
        parts = tokens[position + 1].children or ()
        text = "".join(part.content for part in parts if part.type in ("text", "code_inline"))
        anchor = _NOT_IN_ANCHORS.sub("", text.strip().lower()).replace(" ", "-")
        count = seen.get(anchor, 0)
        seen[anchor] = count + 1
        yield f"{anchor}-{count}" if count else anchor


def broken_links(page: Page) -> list[str]:
    """Return a line for each relative link of a page that leads nowhere."""
    broken = []
    for link in page.links:
        if "://" in link.target or link.target.startswith("mailto:"):
            continue
        file, _, anchor = link.target.partition("#")
        target = (page.path.parent / file).resolve() if file else page.path
        if not target.exists():
            broken.append(f"{page.name}:{link.line}: there is no {link.target}")
        elif anchor and (target.suffix != ".md" or anchor not in read_page(target).anchors):
            broken.append(f"{page.name}:{link.line}: {file or page.name} has no #{anchor}")
    return broken
