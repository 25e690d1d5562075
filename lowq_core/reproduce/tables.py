"""`Table`: a small table that shows itself in a notebook, in a terminal and in Markdown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

WIDE = 9
"""From so many columns on, letters are smaller, so that a page holds the table."""


@dataclass(frozen=True)
class Table:
    """Rows of cells under column heads, already as words.

    Attributes:
        columns: column heads.
        rows: one tuple a row, as long as `columns`.
        caption: one line below the table.
        groups: (head, number of columns) of a line above the column heads, or nothing.

    >>> print(Table(("row", "hard"), (("gem", "41.2"),)))
    row  hard
    gem  41.2
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    groups: tuple[tuple[str, int], ...] = ()

    def __str__(self) -> str:
        heads = [self.columns] if not self.groups else [self._spread_groups(), self.columns]
        lines = [*heads, *self.rows]
        widths = [max(len(line[column]) for line in lines) for column in range(len(self.columns))]
        text = [
            "  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip()
            for line in lines
        ]
        return "\n".join(text + ([self.caption] if self.caption else []))

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """What a notebook shows: plain HTML, no scripts and no style sheet of its own."""
        if not self.rows and not any(
            self.columns
        ):  # a table without a column would be as narrow as its caption's longest word
            return f"<p>{escape(self.caption)}</p><p>Nothing to show here.</p>"
        groups = "".join(f'<th colspan="{count}">{escape(head)}</th>' for head, count in self.groups)
        # benchmark+distractors/measure may wrap
        heads = (re.sub("([+/])", r"\1<wbr>", escape(word)) for word in self.columns)
        head = "".join(f"<th>{word}</th>" for word in heads)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(word)}</td>" for word in row) + "</tr>\n" for row in self.rows
        )
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        top = f"<tr>{groups}</tr>" if groups else ""
        style = "lowq wide" if len(self.columns) >= WIDE else "lowq"
        return f'<table class="{style}">{caption}<thead>{top}<tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table>'

    def to_markdown(self) -> str:
        """The table in Markdown; groups become part of the column heads.

        >>> print(Table(("a",), (("1|2",),)).to_markdown())
        | a |
        |---|
        | 1\\|2 |
        """
        columns = self.columns
        if self.groups:
            columns = tuple(
                f"{head}: {column}" if head else column
                for column, head in zip(self.columns, self._group_of_each(), strict=True)
            )
        lines = [columns, ("---",) * len(columns), *self.rows]
        text = ["| " + " | ".join(word.replace("|", "\\|") for word in line) + " |" for line in lines]
        text[1] = "|" + "---|" * len(columns)
        return "\n".join(text + (["", self.caption] if self.caption else []))

    def _group_of_each(self) -> list[str]:
        return [head for head, count in self.groups for _ in range(count)]

    def _spread_groups(self) -> tuple[str, ...]:
        return tuple(head if place == 0 else "" for head, count in self.groups for place in range(count))


def from_dicts(rows: Sequence[Mapping[str, Any]], caption: str = "") -> Table:
    """A table of dictionaries; the columns are their keys in order of appearance.

    >>> print(from_dicts([{"noise": "fog", "hard": 41.234}, {"noise": "jpeg"}]))
    noise  hard
    fog    41.2
    jpeg
    """
    columns = tuple(dict.fromkeys(key for row in rows for key in row))
    return Table(columns, tuple(tuple(words(row.get(key)) for key in columns) for row in rows), caption)


def words(value: Any) -> str:
    """One cell's value as words: numbers with one decimal, nothing for None.

    >>> words(41.26), words(7), words(None)
    ('41.3', '7', '')
    """
    if value is None:
        return ""
    return f"{value:.1f}" if isinstance(value, float) else str(value)
