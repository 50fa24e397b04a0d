"""Plain-text tables."""

from __future__ import annotations

import math

import pytest

from fmstats.tables import format_number, format_share, format_table


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
    [(0.0, "0"), (1234.56, "1235"), (0.000123456, "0.0001235"), (1e9, "1e+09"), (math.nan, "nan")],
)
def test_numbers(x: float, text: str) -> None:
    assert format_number(x) == text


@pytest.mark.parametrize(
    ("x", "text"),
    [(None, "-"), (math.nan, "-"), (0.0, "0.0%"), (0.1234, "12.3%"), (1.0, "100.0%")],
)
def test_shares(x: float | None, text: str) -> None:
    assert format_share(x) == text
