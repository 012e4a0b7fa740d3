"""The parts of a page, as HTML and as Markdown."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class Text:
    """A paragraph. `strong` marks one that a reader must not miss."""

    text: str
    strong: bool = False


@dataclass(frozen=True)
class Code:
    """A command."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows of plain text. All columns but `words` hold numbers."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Sequence[int] = (0,)
    """Indices of the columns of words."""


@dataclass(frozen=True)
class Figure:
    """A figure. Its name is unique on the page."""

    name: str
    caption: str
    svg: bytes


@dataclass(frozen=True)
class Figures:
    """Figures side by side. A narrow screen scrolls the larger ones."""

    figures: Sequence[Figure]
    size: Literal["small", "large", "strip"] = "small"


@dataclass(frozen=True)
class Section:
    """A heading and its contents. With `folded` a reader opens it."""

    title: str
    blocks: Sequence["Block"]
    folded: bool = False


Block = Text | Code | Table | Figures | Section


def to_html(block: Block, level: int = 2) -> str:
    """A page with everything inline, so nothing is fetched."""
    match block:
        case Text(text, strong):
            kind = ' class="answer"' if strong else ""
            return f"<p{kind}>{html.escape(text)}</p>"
        case Code(text):
            return f"<pre>{html.escape(text)}</pre>"
        case Table():
            return _table_html(block)
        case Figures(figures, size):
            inside = "".join(map(_figure_html, figures))
            return f'<div class="figures {size}">{inside}</div>'
        case Section(title, blocks, folded):
            inside = "".join(to_html(b, level + 1) for b in blocks)
            if folded:
                title = html.escape(title)
                return f"<details><summary>{title}</summary>{inside}</details>"
            return f"<h{level}>{html.escape(title)}</h{level}>{inside}"


def _table_html(table: Table) -> str:
    number = ' class="n"'

    def line(cells: Sequence[str], tag: str) -> str:
        return "".join(
            f"<{tag}{number * (index not in table.words)}>{_cell(cell)}</{tag}>"
            for index, cell in enumerate(cells)
        )

    rows = "".join(f"<tr>{line(row, 'td')}</tr>" for row in table.rows)
    head = f"<thead><tr>{line(table.head, 'th')}</tr></thead>"
    return f'<div class="table"><table>{head}<tbody>{rows}</tbody></table></div>'


def _cell(text: str) -> str:
    """Keep a few words on one line."""
    text = html.escape(text)
    return text.replace(" ", "&nbsp;") if len(text) <= 16 else text


def _figure_html(figure: Figure) -> str:
    data = base64.b64encode(figure.svg).decode()
    caption = html.escape(figure.caption)
    return (
        f'<figure><img alt="{caption}" src="data:image/svg+xml;base64,{data}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def to_markdown(block: Block, level: int = 2) -> str:
    """Link to figures in figures/. Leave out folded parts and texts of them."""
    match block:
        case Text(text, strong):
            return f"**{text}**\n" if strong else f"{text}\n"
        case Code(text):
            return "\n".join(f"    {line}" for line in text.splitlines()) + "\n"
        case Table():
            return table_markdown(block)
        case Figures(figures):
            return "".join(f"![{f.caption}](figures/{f.name}.svg)\n" for f in figures)
        case Section(title, blocks, folded):
            shown = [b for b in blocks if not (isinstance(b, Section) and b.folded)]
            of_folded = len(shown) < len(blocks) and all(
                isinstance(block, Text) for block in shown
            )
            if folded or of_folded:
                return ""
            inside = "\n".join(to_markdown(b, level + 1) for b in shown)
            return f"{'#' * level} {title}\n\n{inside}"


def table_markdown(table: Table) -> str:
    """A pipe table."""
    rule = ["---" if i in table.words else "---:" for i in range(len(table.head))]
    lines = (table.head, rule, *table.rows)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def save_figures(blocks: Sequence[Block], folder: Path) -> None:
    """The pictures that Markdown links to."""
    for block in blocks:
        if isinstance(block, Figures):
            folder.mkdir(parents=True, exist_ok=True)
            for figure in block.figures:
                (folder / f"{figure.name}.svg").write_bytes(figure.svg)
        elif isinstance(block, Section) and not block.folded:
            save_figures(block.blocks, folder)
