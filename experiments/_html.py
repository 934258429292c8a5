"""A page of one file, which asks nothing of any network: style and images are inside."""

import base64
import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from experiments._comparison import NOT_RUN
from experiments._document import (
    Block,
    Cell,
    Command,
    Figure,
    Folded,
    Heading,
    Listing,
    Paragraph,
    Table,
)

_STYLE = Path(__file__).with_name("report.css")
_KINDS = {".png": "image/png", ".gif": "image/gif"}


class Entry(NamedTuple):
    """A line of the contents."""

    anchor: str
    title: str
    there: bool
    """Whether it has results."""


def page(
    title: str,
    opening: Sequence[Block],
    contents: Mapping[str, Sequence[Entry]],
    blocks: Sequence[Block],
) -> str:
    """The whole page.

    Args:
        title: Its title and first heading.
        opening: What is below the title, on a phone before the contents.
        contents: The sections in groups.
        blocks: The sections.
    """
    groups = "\n".join(
        f"<li>{_escape(group)}\n<ul>\n{''.join(map(_entry, entries))}</ul>\n</li>"
        for group, entries in contents.items()
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_escape(title)}</title>
<style>
{_STYLE.read_text().strip()}
</style>
</head>
<body>
<a class="skip" href="#document">To the results</a>
<header>
<h1>{_escape(title)}</h1>
{render(opening)}
</header>
<nav aria-label="Contents">
<ul>
{groups}
</ul>
</nav>
<main id="document">
{render(blocks)}
</main>
</body>
</html>
"""


def _entry(entry: Entry) -> str:
    mark = "" if entry.there else f" {_span('absent', NOT_RUN)}"
    link = f'<a href="#{_escape(entry.anchor)}">{_escape(entry.title)}</a>'
    return f"<li>{link}{mark}</li>\n"


def render(blocks: Sequence[Block]) -> str:
    """Blocks as HTML; whatever they hold is text, and no markup gets through."""
    return "\n".join(_block(block) for block in blocks)


def inline(text: str) -> str:
    """Text with **bold**, `code` and links to anchors of the page; everything else is itself.

    Example:
        >>> inline("**a < b** in `x**2`, see [Table 1](#matched)")
        '<strong>a &lt; b</strong> in <code>x**2</code>, see <a href="#matched">Table 1</a>'
    """
    pieces = re.split(r"`([^`]+)`", text)
    for i, piece in enumerate(pieces):
        piece = _escape(piece)
        if i % 2:
            pieces[i] = f"<code>{piece}</code>"
            continue
        piece = re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", piece)
        pieces[i] = re.sub(r"\[([^\]]+)\]\((#[\w-]+)\)", r'<a href="\2">\1</a>', piece)
    return "".join(pieces)


def _escape(text: str) -> str:
    return html.escape(text, quote=True)


def _block(block: Block) -> str:
    match block:
        case Heading(level, text, anchor):
            name = f' id="{_escape(anchor)}"' if anchor else ""
            return f"<h{level}{name}>{inline(text)}</h{level}>"
        case Paragraph(text, kind):
            return f'<p class="{kind}">{inline(text)}</p>' if kind else f"<p>{inline(text)}</p>"
        case Listing(items):
            return "<ul>" + "".join(f"<li>{inline(item)}</li>" for item in items) + "</ul>"
        case Command(text):
            return f"<pre><code>{_escape(text)}</code></pre>"
        case Table():
            return _table(block)
        case Figure():
            return _figure(block)
        case Folded(summary, inner):
            return f"<details><summary>{inline(summary)}</summary>\n{render(inner)}\n</details>"


def _table(table: Table) -> str:
    """A table in a box of its own, which scrolls where the screen is narrower."""
    numeric = [
        all(_is_number(row[i]) for row in table.rows if i < len(row)) and i > 0
        for i in range(len(table.header))
    ]
    head = "".join(
        f'<th scope="col"{_right(number)}>{inline(name)}</th>'
        for name, number in zip(table.header, numeric)
    )
    rows = "\n".join(
        "<tr>"
        + f'<th scope="row">{_content(row[0])}</th>'
        + "".join(f"<td{_right(n)}>{_content(c)}</td>" for c, n in zip(row[1:], numeric[1:]))
        + "</tr>"
        for row in table.rows
    )
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Table">\n<table>\n'
        f"<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>\n</div>"
    )


def _right(number: bool) -> str:
    return ' class="number"' if number else ""


def _is_number(cell: str | Cell) -> bool:
    """Whether a cell belongs in a column of numbers: one, an empty one, or one not run."""
    return isinstance(cell, Cell) or bool(re.fullmatch(r"(\**[-+]?\d.*)?", cell))


def _content(cell: str | Cell) -> str:
    if isinstance(cell, str):
        return inline(cell)
    ours = _span(cell.tone, cell.ours) if cell.tone == "absent" else inline(cell.ours)
    if not cell.published:
        return ours
    gap = f", {_span(cell.tone, cell.difference)}" if cell.difference else ""
    return f'{ours} <span class="published">({_escape(cell.published)}{gap})</span>'


def _span(kind: str, text: str) -> str:
    return f'<span class="{kind}">{_escape(text)}</span>'


def _figure(figure: Figure) -> str:
    """An image at the size that its resolution says, or as wide as the screen."""
    with Image.open(figure.path) as image:
        scale = min(1.0, 96 / image.info.get("dpi", (96, 96))[0])
        width, height = (max(1, round(scale * side)) for side in image.size)
    content = base64.b64encode(figure.path.read_bytes()).decode()
    source = f"data:{_KINDS[figure.path.suffix]};base64,{content}"
    return (
        f'<figure><img src="{source}" width="{width}" height="{height}" '
        f'alt="{_escape(figure.alt)}">'
        f"<figcaption>{inline(figure.caption)}</figcaption></figure>"
    )
