"""A document as blocks: written as Markdown, read from the Markdown that experiments write.

`_html` makes a page of the same blocks, so that both say the same.
"""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Heading:
    """A heading, and the name under which links find it."""

    level: int
    text: str
    anchor: str = ""


@dataclass(frozen=True)
class Paragraph:
    """Text with **bold**, `code` and links to anchors; a badge or a note stands out."""

    text: str
    kind: Literal["", "badge", "note"] = ""


@dataclass(frozen=True)
class Listing:
    """A list with bullets."""

    items: tuple[str, ...]


@dataclass(frozen=True)
class Command:
    """A line for the shell."""

    text: str


@dataclass(frozen=True)
class Cell:
    """A number of ours, then the published one and the difference.

    Attributes:
        ours: The number, or that it was not run.
        published: The published number; empty where there is none.
        difference: Ours less published, with its sign; empty where one of them is missing.
        tone: Where ours lies, or that it is absent.
    """

    ours: str
    published: str = ""
    difference: str = ""
    tone: Literal["", "above", "near", "below", "absent"] = ""

    def __str__(self) -> str:
        """As Markdown."""
        against = ", ".join(filter(None, (self.published, self.difference)))
        return f"{self.ours} ({against})" if against else self.ours


@dataclass(frozen=True)
class Table:
    """Rows of cells; the first of each names the row."""

    header: tuple[str, ...]
    rows: tuple[tuple[str | Cell, ...], ...]


@dataclass(frozen=True)
class Figure:
    """An image file, with its caption."""

    path: Path
    caption: str
    alt: str


@dataclass(frozen=True)
class Folded:
    """Blocks behind a line that opens them."""

    summary: str
    blocks: tuple["Block", ...]


Block = Heading | Paragraph | Listing | Command | Table | Figure | Folded


def to_markdown(blocks: Sequence[Block], folder: Path) -> str:
    """The document as Markdown, its figures relative to the folder that it is for."""
    return "\n\n".join(_markdown(block, folder) for block in blocks) + "\n"


def _markdown(block: Block, folder: Path) -> str:
    match block:
        case Heading(level, text, anchor):
            line = f"{'#' * level} {text}"
            return f'<a id="{anchor}"></a>\n\n{line}' if anchor else line
        case Paragraph(text, kind):
            return f"> {text}" if kind else text
        case Listing(items):
            return "\n".join(f"- {item}" for item in items)
        case Command(text):
            return f"```bash\n{text}\n```"
        case Table(header, rows):
            rule = "|" + "|".join("---" for _ in header) + "|"
            return "\n".join([_row(header), rule, *map(_row, rows)])
        case Figure(path, caption, alt):
            where = Path(os.path.relpath(path, folder)).as_posix()
            return f"![{alt}](<{where}>)\n\n*{caption}*"
        case Folded(summary, inner):
            inside = to_markdown(inner, folder)
            return f"<details><summary>{summary}</summary>\n\n{inside}\n</details>"


def _row(cells: Sequence[str | Cell]) -> str:
    return "| " + " | ".join(str(cell).replace("|", r"\|") for cell in cells) + " |"


def from_markdown(text: str) -> list[Block]:
    r"""Read the Markdown that experiments write: headings, paragraphs, bullets and tables.

    Example:
        >>> from_markdown("# PSNR\n\n| model | 25 |\n|---|---|\n| wne | 30.1 |")[1]
        Table(header=('model', '25'), rows=(('wne', '30.1'),))
    """
    return list(_blocks(re.split(r"\n\s*\n", text.strip())))


def _blocks(chunks: Sequence[str]) -> Iterator[Block]:
    for chunk in chunks:
        lines = [line.strip() for line in chunk.splitlines() if line.strip()]
        while lines and (found := re.match(r"(#{1,6}) +(.*)", lines[0])):
            yield Heading(len(found[1]), found[2])
            lines = lines[1:]
        if not lines:
            continue
        if len(lines) > 1 and lines[0][0] == "|" and set(lines[1]) <= set("|-: "):
            header, _, *body = lines
            yield Table(_cells(header), tuple(map(_cells, body)))
        elif all(line.startswith("- ") for line in lines):
            yield Listing(tuple(line[2:] for line in lines))
        else:
            yield Paragraph(" ".join(lines))


def _cells(line: str) -> tuple[str, ...]:
    inside = line.strip().removeprefix("|").removesuffix("|")
    return tuple(cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", inside))
