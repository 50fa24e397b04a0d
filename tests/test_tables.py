"""Plain-text tables."""

from __future__ import annotations

import math

import pytest

from fmstats.errors import FmstatsError
from fmstats.output.tables import (
    Column,
    Table,
    find_column,
    format_number,
    format_plural,
    format_share,
    format_table,
    join_blocks,
    make_printable,
    name_some,
    sort_rows,
    space_out,
)

COLUMNS = (
    Column("name", "layer", left=True),
    Column("size", "output", lambda size: "x".join(map(str, size)), left=True),
    Column("mean_spread", "spread", format_number),
    Column("sum", "a+b", read=lambda row: row["a"] + row["b"]),
)
ROWS = [
    {"name": "a.10", "size": (2, 8), "mean_spread": 0.5, "a": 1, "b": 2},
    {"name": "a.9", "size": (3, 3), "mean_spread": math.nan, "a": 5, "b": 0},
    {"name": "b", "size": None, "mean_spread": -2.0, "a": 1, "b": 2},
]


def test_columns() -> None:
    rows = [("conv", "Conv2d", "16"), ("features.18.0", "R", "1280")]
    assert format_table(("layer", "type", "channels"), rows, left=2).split("\n") == [
        "layer          type    channels",
        "conv           Conv2d        16",
        "features.18.0  R           1280",
    ]


def test_no_rows_and_no_spaces_at_the_end() -> None:
    assert format_table(("a", "b"), []) == "a  b"
    assert format_table(("a", "long"), [("1", "")], left=2) == "a  long\n1"


def test_ragged_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        format_table(("a", "b"), [("1",)])


@pytest.mark.parametrize(
    ("x", "text"),
    [(0.0, "0"), (1234.56, "1235"), (0.000123456, "0.0001235"), (1e9, "1e+09"), (math.inf, "inf")],
)
def test_numbers(x: float, text: str) -> None:
    assert format_number(x) == text


@pytest.mark.parametrize("nothing", [None, math.nan])
def test_no_number(nothing: float | None) -> None:
    assert format_number(nothing) == "-"


@pytest.mark.parametrize(
    ("names", "most", "text"),
    [
        ((), 2, ""),
        (("a",), 2, "a"),
        (("a", "b"), 2, "a, b"),
        (("a", "b", "c"), 2, "a, b and 1 more"),
        (tuple("abcdefg") * 1000, 1, "a and 6,999 more"),
    ],
)
def test_the_first_names_and_how_many_more(names: tuple[str, ...], most: int, text: str) -> None:
    assert name_some(names, most) == text
    assert name_some(list(names), most) == text


@pytest.mark.parametrize(
    ("n", "text"), [(0, "0 layers"), (1, "1 layer"), (12_000, "12,000 layers")]
)
def test_so_many_of_something(n: int, text: str) -> None:
    assert format_plural(n, "layer") == text


@pytest.mark.parametrize(
    ("x", "text"),
    [(None, "-"), (math.nan, "-"), (0.0, "0.0%"), (0.1234, "12.3%"), (1.0, "100.0%")],
)
def test_shares(x: float | None, text: str) -> None:
    assert format_share(x) == text


def test_a_table_is_its_columns_of_the_rows() -> None:
    assert str(Table(COLUMNS, ROWS[:2])).split("\n") == [
        "layer  output  spread  a+b",
        "a.10   2x8        0.5    3",
        "a.9    3x3          -    5",
    ]
    assert str(Table(COLUMNS[:1], [])) == "layer"


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("name", ["a.9", "a.10", "b"]),
        ("-layer", ["b", "a.10", "a.9"]),
        ("spread", ["a.10", "b", "a.9"]),
        ("-mean_spread", ["b", "a.10", "a.9"]),  # no number comes last in either case
        ("a+b", ["a.9", "a.10", "b"]),  # equal ones as they were
        ("-sum", ["a.10", "b", "a.9"]),
        ("size", ["a.10", "a.9", "b"]),
        ("-output", ["a.9", "a.10", "b"]),
    ],
)
def test_rows_are_sorted(by: str, names: list[str]) -> None:
    before = list(ROWS)
    assert [row["name"] for row in sort_rows(ROWS, COLUMNS, by)] == names
    assert before == ROWS
    assert sort_rows([], COLUMNS, by) == []


def test_numbers_in_names_of_any_length() -> None:
    """And of any script: digits that are no ASCII are letters here."""
    long = "9" * 5000
    names = ["l#\u0663", f"l{long}0", "l10", f"l{long}", "l2", "l02", "l1", "l", "l2a", "l0", "l00"]
    rows = [{"name": name} for name in names]
    assert [row["name"] for row in sort_rows(rows, [Column("name", "layer")], "layer")] == [
        *("l", "l0", "l00", "l1", "l2", "l02", "l2a", "l10", f"l{long}", f"l{long}0", "l#\u0663"),
    ]


def test_columns_are_found_by_name_before_heading() -> None:
    twins = (Column("a", "b"), Column("b", "a"))
    assert find_column(twins, "a") is twins[0]
    assert find_column(COLUMNS, "spread") is COLUMNS[2]
    renamed = (Column("a", "a"), Column("c", "d", was="a"), Column("e", "f", was="b"))
    assert find_column(renamed, "a") is renamed[0]
    with pytest.warns(DeprecationWarning, match="^the column 'b' is called 'e' now$"):
        assert find_column(renamed, "b") is renamed[2]
    with pytest.raises(FmstatsError, match=r"^there is no column ''; choose from "):
        sort_rows(ROWS, COLUMNS, "-")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("features.0 [x] \\ \u5c42", "features.0 [x] \\ \u5c42"),
        ("\x1b[31m\x07\x9b\x7f", "\\x1b[31m\\x07\\x9b\\x7f"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\u202e\u200b\ud800", "\\u202e\\u200b\\ud800"),
    ],
)
def test_control_characters_are_shown(text: str, shown: str) -> None:
    assert make_printable(text) == shown
    assert make_printable(shown) == shown
    assert format_table(["name"], [[text]]) == f"{'name':<{len(shown)}}".rstrip() + f"\n{shown}"


def test_blocks() -> None:
    table = Table(COLUMNS[:1], ROWS[:1])
    assert space_out(["a", table, "b"]) == ["a", "", table, "", "b"]
    assert space_out([]) == []
    assert join_blocks(space_out(["a", table])) == "a\n\nlayer\na.10"
