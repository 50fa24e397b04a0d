"""Hold what `Profile.compare` returns: a score, a verdict, and where things changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from fmstats.drift.layers import Evidence, LayerDrift
from fmstats.errors import needs
from fmstats.output.tables import (
    Block,
    Column,
    Row,
    Table,
    format_number,
    format_plural,
    format_share,
    join_blocks,
    space_out,
)
from fmstats.profiles.profile import Profile

if TYPE_CHECKING:
    import pandas as pd

SECTIONS = 8
# Alone, a layer counts half: the highest of a hundred scores is high by chance.
_ALONE = 0.5


_HAPPENED = {"newly_dead": "dead", "revived": "revived", "newly_broken": "NaN or Inf"}


def name_changes(row: Row) -> str:
    """Describe in words what happened to the channel of a row; often this is empty."""
    words = [word for key, word in _HAPPENED.items() if row[key]]
    if row["non_finite"] and not row["newly_broken"]:
        words.append(f"{_HAPPENED['newly_broken']} {to_percent(row['non_finite']):+g}%")
    return ", ".join(words)


def to_percent(share: float) -> float:
    """Return a share in percent, rounded to two digits: `g` formats it, 100 not as 1e+02."""
    return float(f"{100 * share:.2g}")


def _grade_changes(words: str) -> str | None:
    return "error" if _HAPPENED["newly_broken"] in words else "warning" if words else None


_EFFECT_COLUMNS = (
    Column("shift", "shift", format_number, keep=6),
    Column("spread", "spread", format_number, keep=5),
    Column("sparsity", "sparsity", format_share, keep=4),
    Column("growth", "growth", format_number, keep=1),
)
# Where both profiles have histograms.
_OF_DISTRIBUTIONS = (
    Column("wasserstein", "W1", format_number, keep=7),
    Column("psi", "PSI", format_number, keep=3),
    Column("js", "JS", format_number, keep=2),
)
_LAYER_COLUMNS = (
    Column("layer", "layer", left=True, names=True),
    Column("type", "type", left=True, keep=2),
    Column("score", "score", format_number, keep=8),
    *_EFFECT_COLUMNS,
    Column("newly_dead", "dead", keep=3),
    Column("revived", "revived", keep=0),
)
_CHANNEL_COLUMNS = (
    Column("layer", "layer", left=True, names=True),
    Column("channel", "channel", keep=8),
    *_EFFECT_COLUMNS,
    Column("now", "now", keep=7, read=name_changes, grade=_grade_changes),
)


@dataclass(frozen=True)
class Comparison:
    """Holds the comparison of two profiles; true where there is drift.

    Attributes:
        score: the overall score: about 1 by chance, 0 for equal profiles; NaN without evidence.
        threshold: drift from this score on.
        verdict: "drift", "no drift" or "not enough data".
        reasons: why there is no verdict, or why it is drift whatever the score; what else to know
            of the evidence.
        layers: in the order of execution.
        left_out: why a layer was not compared, by name.
        evidence: samples seen.
        baseline: what was compared with, its rows called as those of the profile; None where
            nothing was.
        paired: whether the inputs were the same: then a score is the size of a change, in standard
            deviations of the baseline, `threshold` is NaN where none was given, and the verdict
            then is "changed" or "no change beyond rounding".

    Examples:
        >>> import fmstats, torch
        >>> model = torch.nn.Sequential(torch.nn.Identity())
        >>> x = torch.linspace(-1, 1, 400).reshape(100, 4)
        >>> baseline = fmstats.profile(model, x, progress=False)
        >>> comparison = fmstats.profile(model, x + 2, progress=False).compare(baseline)
        >>> comparison.verdict, comparison.top_layers(1)[0]["layer"]
        ('drift', '0')
    """

    score: float
    threshold: float
    verdict: str
    reasons: tuple[str, ...]
    layers: tuple[LayerDrift, ...]
    left_out: dict[str, str]
    evidence: Evidence | None
    baseline: Profile | None = field(default=None, repr=False, compare=False)
    paired: bool = False

    @property
    def drift(self) -> bool:
        """Return whether the verdict is drift."""
        return self.verdict == "drift"

    def __bool__(self) -> bool:
        return self.drift

    def top_layers(self, top: int | None = None) -> list[dict[str, Any]]:
        """Return a row per layer, highest score first; `LayerDrift.row` describes them.

        Scores that are the same to three digits count as equal: of such layers the one that runs
        first comes first, since what it did may be all that the others show.

        Args:
            top: so many rows at most; None: all.
        """
        ranked = sorted(self.layers, key=lambda layer: -_rank(layer.score))
        return [layer.row() for layer in ranked[:top]]

    def top_channels(self, top: int | None = None) -> list[dict[str, Any]]:
        """Return a row per channel, largest size first; see `LayerDrift.channels`.

        Args:
            top: so many rows at most; None: all.
        """
        rows = [row for layer in self.layers for row in layer.channels()]
        return sorted(rows, key=lambda row: -(row["size"] or 0.0))[:top]

    def to_dict(self, top: int | None = None) -> dict[str, Any]:
        """Return plain lists, numbers and strings, ready for JSON.

        Args:
            top: so many layers and channels at most; None: all.
        """
        evidence = self.evidence
        return {
            "score": None if math.isnan(self.score) else self.score,
            "threshold": None if math.isnan(self.threshold) else self.threshold,
            "paired": self.paired,
            "verdict": self.verdict,
            "reasons": list(self.reasons),
            "samples": None if evidence is None else evidence.now,
            "baseline_samples": None if evidence is None else evidence.baseline,
            "calibration_samples": [] if evidence is None else list(evidence.shards),
            "left_out": dict(self.left_out),
            "layers": self.top_layers(top),
            "channels": self.top_channels(top),
        }

    def to_pandas(self) -> pd.DataFrame:
        """Return a row per layer, in the order of execution; `LayerDrift.row` describes them.

        Raises:
            FmstatsError: pandas is not installed.
        """
        with needs("to_pandas()", "pandas", "'fmstats[pandas]'"):
            from pandas import DataFrame
        frame: pd.DataFrame = DataFrame([layer.row() for layer in self.layers])
        return frame

    def describe(self, top: int | None = 10) -> str:
        """Return the verdict in words, with tables of the layers and channels that moved most.

        Args:
            top: so many layers and channels at most; 0: no tables; None: all.
        """
        return join_blocks(self.blocks(top))

    def blocks(self, top: int | None = 10) -> list[Block]:
        """Return the texts and tables of `describe(top)` as blocks. See `describe`."""
        blocks: list[Block] = [self._summary()]
        if top != 0 and self.layers:
            blocks.append(_make_table(_LAYER_COLUMNS, self.top_layers(top)))
            blocks.append(_make_channel_table(self.top_channels(top)))
        return space_out(blocks)

    def _summary(self) -> str:
        if self.paired:
            return self._summarise_pair()
        lines = [f"{self.verdict}: score {format_number(self.score)}, "]
        lines[0] += f"drift if score >= {format_number(self.threshold)} (about 1 by chance)"
        if self.evidence is not None:
            e = self.evidence
            chance = "assumed to be that of photographs"
            if e.shards:
                chance = f"measured on {len(e.shards)} shards of the baseline"
            layers = format_plural(len(self.layers), "layer")
            lines.append(
                f"{e.now} samples against {e.baseline}, {layers}; "
                f"the size of chance differences is {chance}"
            )
        return "\n".join([*lines, *self._list_notes()])

    def _summarise_pair(self) -> str:
        """Say by how much a model changed that saw the same inputs twice."""
        score = format_number(self.score)
        lines = [self.verdict]
        if self.score > 0:
            first = next(layer.layer for layer in self.layers if layer.score > 0)
            most = self.top_layers(1)[0]["layer"]
            lines[0] += f": first in {first}, most in {most}, by {score} standard deviations"
        if not math.isnan(self.threshold):
            lines[0] += f", drift if score >= {format_number(self.threshold)}"
        seen = "" if self.evidence is None else f", {self.evidence.now} samples"
        lines.append(f"the same inputs in both{seen}, {format_plural(len(self.layers), 'layer')}")
        return "\n".join([*lines, *self._list_notes()])

    def _list_notes(self) -> list[str]:
        notes = [f"  {reason}" for reason in self.reasons]
        if self.left_out:
            notes.append(f"  not compared: {format_plural(len(self.left_out), 'layer')}")
        return notes

    def __str__(self) -> str:
        return self.describe()


def overall_score(scores: Sequence[float]) -> float:
    """Return one score for layers in the order of execution; NaN if none has one.

    The network is cut into sections of equal numbers of layers, and each section has the median of
    its layers, which single layers do not sway. The score is the highest of these, or half that of
    the layer with the highest, whichever is more.
    """
    known = np.array([score for score in scores if not math.isnan(score)])
    if not known.size:
        return math.nan
    sections = np.array_split(known, min(SECTIONS, known.size))
    medians = [float(np.median(section)) for section in sections if section.size >= 3]
    medians.append(float(np.median(known)))
    return max(*medians, _ALONE * float(known.max()))


def _make_channel_table(rows: Sequence[Row]) -> Table:
    """Make the table of channels; it drops the column of changes if all of them are empty."""
    happened = any(map(name_changes, rows))
    columns = [c for c in _CHANNEL_COLUMNS if happened or c.read is not name_changes]
    return _make_table(columns, rows)


def _make_table(columns: Sequence[Column], rows: Sequence[Row]) -> Table:
    """Make a table; effects of distributions, where all rows have them, stand before growth."""
    place = [column.name for column in columns].index("growth")
    more = [c for c in _OF_DISTRIBUTIONS if rows and all(c.name in row for row in rows)]
    return Table([*columns[:place], *more, *columns[place:]], rows)


def _rank(score: float) -> float:
    """Return the score to three digits as a sort key; layers without a score come last."""
    return -1.0 if math.isnan(score) else float(f"{score:.3g}")
