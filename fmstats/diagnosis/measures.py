"""Measure a whole model for conditions, with bounds where data is lacking.

Where evidence is lacking a measure is a range: at least this much was found, and at most this much
could be there if everything that was not judged were as bad as can be.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from fmstats.diagnosis.observed import Observed, Verdict
from fmstats.output.tables import format_plural
from fmstats.profiles.coverage import UNMASKED
from fmstats.profiles.metadata import read_count, read_rows

COUNTED = {
    "nan": "NaN elements",
    "inf": "infinite elements, of both signs",
    "errors": "findings of severity error that repeat no other",
    "warnings": "findings of severity warning that repeat no other",
    "infos": "findings of severity info that repeat no other",
    "findings": "findings that repeat no other",
    "samples": "samples that the run saw",
    "unmeasured": "chosen layers without statistics, and parts that could not be followed",
}
RUN_SHARES = {"skipped": "share of samples that were left out"}
OF_RUNS = ("samples", "unmeasured", *RUN_SHARES)  # which no layer has for itself
NO_LAYER = "no layer was measured"
NO_LAYER_FITS = "the rule applies to no layer of this profile"


@dataclass(frozen=True)
class Measure:
    """Holds a number of the whole model, or its bounds.

    Attributes:
        value: of what was judged; None where nothing was.
        at_least, at_most: between these it is; equal where it is known, `at_most` None where there
            is no bound.
        unit: what it counts.
        reason: why it is not known, None where it is.
    """

    value: float | None
    at_least: float
    at_most: float | None
    unit: str
    reason: str | None = None

    @property
    def most(self) -> float:
        """Return `at_most`, or infinity where there is no bound."""
        return math.inf if self.at_most is None else self.at_most


@dataclass(frozen=True)
class LayerMeasures:
    """Holds the numbers of one layer by name, for conditions on single layers.

    Attributes:
        type: the class of its module, or its operation.
        channels: how many it has.
    """

    name: str
    type: str
    channels: int
    measures: Mapping[str, Measure]

    def matches(self, glob: str) -> bool:
        """Return whether the name or the type of the layer matches."""
        return fnmatchcase(self.name, glob) or fnmatchcase(self.type, glob)


def pool_measures(layers: Sequence[LayerMeasures], name: str) -> Measure:
    """Return the share of the channels of several layers, or of the layers, that a rule hits."""
    measures = [layer.measures[name] for layer in layers]
    unit = measures[0].unit
    sizes = np.array([layer.channels if "channels" in unit else 1 for layer in layers])
    weights = sizes / sizes.sum()
    least = float(np.dot(weights, [measure.at_least for measure in measures]))
    most = float(np.dot(weights, [measure.most for measure in measures]))
    reason = next((measure.reason for measure in measures if measure.reason), None)
    return Measure(least if reason is None else None, least, most, unit, reason)


def measure_share(
    verdicts: Sequence[Verdict | None], unit: str, lacks: str | None = None
) -> Measure:
    """Measure the share of channels, or layers, that a rule hits among those it applies to.

    Args:
        verdicts: of each layer.
        unit: what the rule judges.
        lacks: the measure that it would need, where the profile does not have it.
    """
    applied = [verdict for verdict in verdicts if verdict is not None]
    hit = sum(int(verdict.hit.sum()) for verdict in applied)
    judged = sum(int(verdict.judged.sum()) for verdict in applied)
    total = sum(verdict.judged.size for verdict in applied)
    named = f"share of {unit}"
    if not total:
        why = f"it needs measure={lacks!r}" if lacks else NO_LAYER_FITS
        return Measure(None, 0.0, 1.0, named, why)
    missing = total - judged
    reason = f"{missing} of {total} {unit} have too little data" if missing else None
    at_most = (hit + missing) / total
    return Measure(hit / judged if judged else None, hit / total, at_most, named, reason)


def measure_counts(
    layers: Sequence[Observed], findings: Mapping[str, tuple[int, int]]
) -> dict[str, Measure]:
    """Return the measures of `COUNTED` that layers tell.

    Args:
        layers: the profile, or one layer of it.
        findings: by measure, how many there are and how many more there could be with more data.
    """
    if not layers:
        names = [name for name in COUNTED if name != "unmeasured"]
        return {name: Measure(None, 0, None, COUNTED[name], NO_LAYER) for name in names}
    unseen = sum(not bool(np.all(layer.stats.count > 0)) for layer in layers)
    blind = f"{unseen} layers have channels that saw nothing" if unseen else None
    fed = layers[0].fed
    counted = {
        "nan": _count("nan", sum(layer.nan for layer in layers), blind),
        "inf": _count("inf", sum(layer.inf for layer in layers), blind),
        "samples": _count("samples", fed, "the profile does not tell" if fed is None else None),
    }
    for name, (number, more) in findings.items():
        reason = f"{more} verdicts have too little data" if more else None
        counted[name] = Measure(number, number, number + more, COUNTED[name], reason)
    return counted


def measure_run(metadata: Mapping[str, Any]) -> dict[str, Measure]:
    """Return the measures of `OF_RUNS` that only the metadata of a profile tell.

    A batch that was left out counts as one sample, since nobody knows how many it held.
    """
    unknown = "the profile does not tell: fmstats.profile() notes it, track() does not"
    missing = None
    if "coverage" in metadata:
        rows = read_rows(metadata, "coverage")
        missing = sum(row.get("status") != UNMASKED for row in rows)
    unmeasured = _count("unmeasured", missing, unknown if missing is None else None)
    samples, left_out = read_count(metadata, "samples"), read_count(metadata, "skipped_count")
    unit = RUN_SHARES["skipped"]
    if samples is None or left_out is None:
        return {"unmeasured": unmeasured, "skipped": Measure(None, 0.0, 1.0, unit, unknown)}
    share = left_out / max(samples + left_out, 1)
    return {"unmeasured": unmeasured, "skipped": Measure(share, share, share, unit)}


def widen(measures: dict[str, Measure], unseen: int) -> dict[str, Measure]:
    """Return measures that hold whatever the parts of the model hold that were not seen.

    Args:
        measures: of what was seen.
        unseen: how many parts were not.
    """
    if not unseen:
        return measures
    why = f"{format_plural(unseen, 'part')} of the model not seen"
    return {
        name: measure
        if name == "samples"
        else replace(
            measure,
            at_most=1.0 if measure.unit.startswith("share") else None,
            reason=f"{measure.reason}; {why}" if measure.reason else why,
        )
        for name, measure in measures.items()
    }


def _count(name: str, number: int | None, reason: str | None) -> Measure:
    return Measure(number, number or 0, number if reason is None else None, COUNTED[name], reason)
