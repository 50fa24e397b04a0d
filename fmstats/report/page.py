"""Gather what is on the page, in the order in which the templates show it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

from fmstats.diagnosis import RULES, SEVERITIES, Diagnosis
from fmstats.diagnosis.sections import group_findings, group_missing_evidence
from fmstats.drift import Comparison
from fmstats.drift.comparison import name_changes
from fmstats.profiles.gaps import describe_unmasked
from fmstats.profiles.layer_profile import LayerProfile
from fmstats.profiles.metadata import name_model, read_count, read_rows, show_value
from fmstats.profiles.profile import Profile
from fmstats.profiles.summary import describe_metadata, find_left_out
from fmstats.report.blocks import cut_blocks
from fmstats.report.distributions import draw_distributions
from fmstats.report.packing import pack_channels
from fmstats.report.readable import make_readable
from fmstats.statistic.on_request import QUANTILES
from fmstats.statistic.view import tell_dim

# Described elsewhere on the page, or by describe_metadata.
_TOLD = {"model", "samples", "batches", "seconds", "started", "ended", "coverage"}
_TOLD |= {"skipped", "skipped_count", "profiles", "sources", "differs"}
_ROWS_OF_DRIFT = 10  # in each table
# From so many layers on the browser leaves out what is not in view, also of a picture of the page.
_MANY_LAYERS = 300


def describe_page(profile: Profile, comparison: Comparison | None) -> dict[str, Any]:
    """Return the context of the templates."""
    diagnosis = profile.diagnose()
    rows = profile.layers()
    worst, numbers = _rate_layers(profile, diagnosis)
    scores = _scores(comparison)
    for number, row in enumerate(rows):
        name = row["layer"]
        row |= {"number": number, "worst": worst[name], "findings": numbers[name]}
        row |= {"abs_max": _abs_max(row), "score": scores.get(name)}
        row["nonfinite"] = row["nan"] + row["inf"]
    places = {row["layer"]: row["number"] for row in rows}
    packed = pack_channels(profile, comparison)
    unmasked = describe_unmasked(diagnosis.unmasked)
    return {
        "model": name_model(profile.metadata),
        "facts": _list_facts(profile, rows),
        "counts": {severity: _count(diagnosis, severity) for severity in SEVERITIES},
        "sections": group_findings(diagnosis.findings, diagnosis.rules),
        "scope": diagnosis.scope,
        "missing_evidence": group_missing_evidence(diagnosis.not_enough_data),
        "rules": RULES,
        "rows": rows,
        "long": len(rows) >= _MANY_LAYERS,
        "folds": bool(cut_blocks(list(places))),
        "places": places,
        "marks": {severity: _mark(rows, severity) for severity in SEVERITIES},
        "statistics": list(packed),
        "packed": packed,
        "data": _gather_data(profile, rows, diagnosis, places, comparison),
        "comparison": comparison,
        "drift": _describe_drift(comparison),
        "distributions": draw_distributions(profile, rows, comparison),
        "run": [*describe_metadata(profile).splitlines(), *filter(None, [unmasked])],
        "metadata": {k: show_value(v) for k, v in profile.metadata.items() if k not in _TOLD},
        "not_measured": read_rows(profile.metadata, "coverage"),
        "left_out": find_left_out(profile.metadata),
    }


def _list_facts(profile: Profile, rows: Sequence[Mapping[str, Any]]) -> dict[str, object]:
    known = {"layers": len(rows), "channels": sum(row["channels"] for row in rows)}
    samples = read_count(profile.metadata, "samples")
    if samples is not None:
        known["samples"] = samples
    return known | {"elements": sum(row["count"] for row in rows)}


def _count(diagnosis: Diagnosis, severity: str) -> int:
    return sum(f.severity == severity and f.follows is None for f in diagnosis.findings)


def _rate_layers(
    profile: Profile, diagnosis: Diagnosis
) -> tuple[dict[str, str | None], dict[str, int]]:
    """Return each layer's gravest severity and number of findings, repeated ones included."""
    worst: dict[str, str | None] = dict.fromkeys(profile)
    numbers = dict.fromkeys(profile, 0)
    for finding in reversed(diagnosis.findings):  # gravest last
        worst[finding.layer] = finding.severity
        numbers[finding.layer] += 1
    return worst, numbers


def _scores(comparison: Comparison | None) -> dict[str, float | None]:
    layers = () if comparison is None else comparison.layers
    return {layer.layer: None if math.isnan(layer.score) else layer.score for layer in layers}


def _abs_max(row: Mapping[str, Any]) -> float:
    return float(max(abs(row["min"]), abs(row["max"])))


def _mark(rows: Sequence[Mapping[str, Any]], severity: str) -> str:
    """Return an SVG path with an upright line at each layer whose gravest findings these are.

    A layer is one unit wide; lines are the higher the graver.
    """
    height = {"error": 12, "warning": 8, "info": 3}[severity]
    return "".join(f"M{row['number']}.5 12v-{height}" for row in rows if row["worst"] == severity)


def _gather_data(
    profile: Profile,
    rows: Sequence[Mapping[str, Any]],
    diagnosis: Diagnosis,
    places: Mapping[str, int],
    comparison: Comparison | None,
) -> dict[str, Any]:
    """Return what the page's scripts need of layers and findings, as JSON."""
    columns = (
        *("channels", "mean", "std", "abs_max", "sparsity", "dead", "saturated"),
        *("nan", "inf", "nonfinite"),
    )
    measured = [name for name in QUANTILES if rows and name in rows[0]]
    layers: dict[str, Any] = {key: [row[key] for row in rows] for key in (*columns, *measured)}
    layers["blocks"] = [[make_readable(n), count] for n, count in cut_blocks(list(places))]
    layers["name"] = [make_readable(row["layer"]) for row in rows]
    layers["type"] = [make_readable(row["type"]) for row in rows]
    layers["dead_share"] = [
        row["dead"] / row["channels"] if row["channels"] else None for row in rows
    ]
    layers["known"] = [
        make_readable(
            f"{'x'.join(map(str, layer.shape))}, {tell_dim(layer.channel_dim)}, "
            f"{layer.dtype}, calls: {layer.calls:,}{_tell_unmasked(layer)}, measured by "
            f"{layer.backend}"
        )
        for layer in profile.info.values()
    ]
    layers["worst"] = [row["worst"] for row in rows]
    layers["findings"] = [row["findings"] for row in rows]
    if comparison is not None:
        layers["score"] = [row["score"] for row in rows]
    return {
        "layers": layers,
        "findings": [
            [places[f.layer], f.severity, f.rule, make_readable(f.message), _pack_runs(f.channels)]
            for f in diagnosis.findings
        ],
        "threshold": _threshold(comparison),
    }


def _threshold(comparison: Comparison | None) -> float | None:
    known = comparison is not None and not math.isnan(comparison.threshold)
    return comparison.threshold if comparison is not None and known else None


def _tell_unmasked(layer: LayerProfile) -> str:
    return f" ({layer.unmasked:,} without the mask)" if layer.unmasked else ""


def _pack_runs(channels: Sequence[int]) -> str:
    """Pack ascending numbers as runs, which details.js reads: `0 16-19 23`."""
    starts = [i for i, c in enumerate(channels) if not i or channels[i - 1] != c - 1]
    runs = [channels[i:end] for i, end in itertools.pairwise([*starts, len(channels)])]
    return " ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _describe_drift(comparison: Comparison | None) -> dict[str, Any] | None:
    if comparison is None:
        return None
    first, *more = comparison.describe(top=0).splitlines()
    return {
        "summary": first,
        "more": more,
        "layers": comparison.top_layers(_ROWS_OF_DRIFT),
        "channels": [
            row | {"now": name_changes(row)} for row in comparison.top_channels(_ROWS_OF_DRIFT)
        ],
    }
