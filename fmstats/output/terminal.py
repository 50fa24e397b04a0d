"""Print on stdout: tables that fit a terminal, or plain text where there is none.

- On a terminal, tables take its width: the least important columns go first, long names of layers
  lose their middle, long lines of text are broken, and words of severity have a colour, as far as
  NO_COLOR, FORCE_COLOR and TERM allow.
- In a pipe, a file or CI nothing is dropped, broken or coloured; FORCE_COLOR colours there, too.
- Names come from files: control characters are shown, never sent, and a character that the
  encoding of stdout does not have is shown as its number.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from fmstats.output.tables import Block, Column, Table, join_blocks, make_printable

if TYPE_CHECKING:
    from rich.console import Console

# What opens a line of a finding, or a verdict.
_STYLES = {
    "error": "bold red",
    "warning": "yellow",
    "info": "cyan",
    "drift": "bold red",
    "FAILED": "bold red",
    "INCOMPLETE": "bold red",
    "problem": "bold red",
    "NO VERDICT": "yellow",
    "passed": "green",
    "no drift": "green",
    "not enough data": "yellow",
}
_OPENING = re.compile(rf"(?:{'|'.join(_STYLES)})(?=:|  |$)")

_GAP = 2  # between columns
_NAME_WIDTH = 32  # to which names are shortened before a column is dropped
_DOTS = "..."
_LEAST_WIDTH = 20  # of a terminal; what calls itself narrower is not believed
_UNBOUNDED = 100_000  # the width of a pipe


def print_blocks(*blocks: Block, elsewhere: str = "") -> None:
    """Print texts and tables below each other.

    Args:
        *blocks: as `fmstats.output.tables.join_blocks` takes them.
        elsewhere: options that give what a terminal has no room for, such as "--json".
    """
    console = _open_console()
    if console is None:
        texts = [b.format(_shown(b)) if isinstance(b, Table) else _printable(b) for b in blocks]
        _write(join_blocks(texts) + "\n")
        return
    console.width = max(console.width, _LEAST_WIDTH) if sys.stdout.isatty() else _UNBOUNDED
    for block in blocks:
        if isinstance(block, Table):
            _print_table(console, block, elsewhere)
        else:
            _print_text(console, block)
    sys.stdout.flush()


def print_data(text: str) -> None:
    """Print JSON or CSV as it is; on a terminal without control characters but for line breaks."""
    if sys.stdout.isatty():
        text = _printable(text)
    _write(text)


def can_print(text: str) -> bool:
    """Tell whether the encoding of stdout has all characters of a text."""
    return _encodable(text) == text


def _write(text: str) -> None:
    sys.stdout.write(_encodable(text))
    sys.stdout.flush()


def _printable(text: str) -> str:
    return "\n".join(map(make_printable, text.split("\n")))


def _shown(table: Table) -> list[list[str]]:
    return [[_encodable(make_printable(cell)) for cell in row] for row in table.cells()]


def _encodable(text: str) -> str:
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _open_console() -> Console | None:
    """Open a console where colours or a width exist; return None for plain text.

    Rich has the last word on colours: it knows NO_COLOR, TERM and old consoles of Windows.
    """
    if not (sys.stdout.isatty() or os.environ.get("FORCE_COLOR")):
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    return Console()


def _print_text(console: Console, text: str, style: str = "") -> None:
    from rich.text import Text

    for line in _encodable(_printable(text)).split("\n"):
        shown = Text("\n".join(_break_line(console, line)), style)
        opening = _OPENING.match(line)
        if opening is not None:
            shown.stylize(_STYLES[opening[0]], 0, opening.end())
        console.print(shown, soft_wrap=True)


def _break_line(console: Console, line: str) -> list[str]:
    """Break a line into pieces that fit; all but the first are indented."""
    from rich.text import Text

    first, *rest = Text(line).wrap(console, console.width) or [Text()]
    if not rest:
        return [line]
    indent = min(len(line) - len(line.lstrip()) + _GAP, console.width // 2)
    behind = Text(line[len(first) :].lstrip())
    rest = list(behind.wrap(console, console.width - indent))
    return [first.plain.rstrip(), *(" " * indent + piece.plain.rstrip() for piece in rest)]


def _print_table(console: Console, table: Table, elsewhere: str) -> None:
    from rich.cells import cell_len
    from rich.table import Table as Grid
    from rich.text import Text

    rows = _shown(table)
    texts = [list(column) for column in zip(*rows, strict=True)] or [[] for _ in table.columns]
    natural = [max(map(cell_len, each)) for each in zip(table.header, *rows, strict=True)]
    widths = fit_columns(table.columns, natural, console.width)
    grid = Grid(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="bold")
    cells = []
    for i, given in widths.items():
        column, column_texts = table.columns[i], texts[i]
        justify: Literal["left", "right"] = "left" if column.left else "right"
        grid.add_column(Text(column.title), justify=justify, no_wrap=True, overflow="crop")
        if column.names and given < natural[i]:
            column_texts = shorten_names(column_texts, given)
        grades = [column.grade and column.grade(column.value(row)) for row in table.rows]
        pairs = zip(column_texts, grades, strict=True)
        cells.append([Text(text, _STYLES[grade] if grade else "") for text, grade in pairs])
    for line in zip(*cells, strict=True):
        grid.add_row(*line)
    console.print(grid)
    left_out = [title for i, title in enumerate(table.header) if i not in widths]
    if left_out:
        ways = f"{elsewhere} or a wider terminal" if elsewhere else "a wider terminal"
        _print_text(console, f"not shown: {', '.join(left_out)} ({ways} shows them)", "dim")


def fit_columns(columns: Sequence[Column], natural: Sequence[int], room: int) -> dict[int, int]:
    """Return the width of each column, by its index, that fits into `room` cells.

    Names are shortened to 32 cells, then columns are dropped, the least important first; names get
    back what is left. The first column always stays, and is cut off where even it does not fit.

    Args:
        columns: all there are.
        natural: the width of each at which nothing is shortened.
        room: cells in a line.
    """
    widths = {
        i: min(width, _NAME_WIDTH) if column.names else width
        for i, (column, width) in enumerate(zip(columns, natural, strict=True))
    }

    def spare() -> int:
        return room - sum(widths.values()) - _GAP * (len(widths) - 1)

    while spare() < 0 and len(widths) > 1:
        del widths[min(reversed(list(widths)[1:]), key=lambda i: columns[i].keep)]
    for i in widths:
        if columns[i].names:
            widths[i] = min(natural[i], widths[i] + spare())
    return widths


def shorten_names(names: Sequence[str], width: int) -> list[str]:
    """Shorten names to at most `width` cells by leaving out their middle.

    Of all cuts, the one nearest the middle is taken that leaves most of them different.
    """
    room = max(width - len(_DOTS), 0)
    heads = [room * share // 8 for share in (4, 5, 6, 3, 7, 2)]
    cuts = [[_cut(name, width, head, room - head) for name in names] for head in heads]
    return max(cuts, key=lambda cut: len(set(cut)))


def _cut(name: str, width: int, head: int, tail: int) -> str:
    from rich.cells import cell_len, set_cell_size

    if cell_len(name) <= width:
        return name
    begin, end = set_cell_size(name, head), set_cell_size(name[::-1], tail)[::-1]
    return begin.rstrip(" .") + _DOTS + end.lstrip(" .")
