"""These columns are printed of the rows of `Profile.layers`."""

from __future__ import annotations

from collections.abc import Collection

from fmstats.output.tables import Column, Row, format_number, format_share


def _grade_nonfinite(n: int) -> str | None:
    return "error" if n else None


def _grade_dead(n: int) -> str | None:
    return "warning" if n else None


def _add_nonfinite(row: Row) -> int:
    return int(row["nan"] + row["inf"])


LAYER_COLUMNS: tuple[Column, ...] = (
    Column("layer", "layer", left=True, names=True),
    Column("type", "type", left=True, keep=3),
    Column("channels", "channels", keep=2),
    Column("mean", "mean", format_number, keep=11),
    Column("mean_spread", "mean spread", format_number, keep=1, was="spread"),
    Column("std", "std", format_number, keep=7),
    Column("sparsity", "sparsity", format_share, keep=9, was="zeros"),
    Column("dead", "dead", keep=8, grade=_grade_dead),
    Column("saturated", "saturated", format_share, keep=6),
    Column("min", "min", format_number, keep=4),
    Column("max", "max", format_number, keep=5),
    Column("nan+inf", "nan+inf", keep=10, read=_add_nonfinite, grade=_grade_nonfinite),
)
# What is there on request, see `fmstats.profiles.measured`.
_MEASURED_COLUMNS = (
    Column("mean_abs", "mean abs", format_number, keep=2),
    Column("skewness", "skewness", format_number, keep=1),
    Column("kurtosis", "kurtosis", format_number, keep=7),
    Column("p1", "p1", format_number, keep=2),
    Column("p50", "p50", format_number, keep=2),
    Column("p99", "p99", format_number, keep=7),
)


def choose_columns(measured: Collection[str]) -> tuple[Column, ...]:
    """Return the columns of a table of layers, with those that were measured on request."""
    return (*LAYER_COLUMNS, *(c for c in _MEASURED_COLUMNS if c.name in measured))
