"""Apply the rules of `diagnose` to a profile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from fmstats.diagnosis.choice import choose_rules
from fmstats.diagnosis.findings import Finding, NotEnoughData
from fmstats.diagnosis.kinds import passes_on
from fmstats.diagnosis.measures import (
    LayerMeasures,
    Measure,
    measure_counts,
    measure_run,
    measure_share,
    widen,
)
from fmstats.diagnosis.observed import Mask, Observed, Verdict, observe, why_too_little
from fmstats.diagnosis.result import Diagnosis
from fmstats.diagnosis.rule import SEVERITIES
from fmstats.diagnosis.rules import RULES
from fmstats.diagnosis.thresholds import RuleThresholds, choose_thresholds
from fmstats.profiles.coverage import UNMASKED, UNSEEN, describe_row
from fmstats.profiles.gaps import name_unmasked
from fmstats.profiles.metadata import read_rows, read_text
from fmstats.profiles.profile import Profile, check_profile

Verdicts = Mapping[str, Sequence[Verdict | None]]


def diagnose(
    profile: Profile,
    rules: Iterable[str] | None = None,
    thresholds: Mapping[str, float] | None = None,
    formats: Iterable[str] = (),
) -> Diagnosis:
    """Say what is wrong with the layers of a profile, and where there is too little data to say.

    Args:
        profile: of one run, or several merged.
        rules: names of `fmstats.diagnosis.RULES`; None: all.
        thresholds: numbers by name, such as `{"dead": 0.999}`, instead of the defaults of
            `fmstats.diagnosis.RULE_THRESHOLDS`.
        formats: float formats that layers may be cast to, such as "e4m3"; those of 16 bits are
            always asked about.

    Raises:
        FmstatsError: an unknown rule, threshold or format, or a number out of its range.

    Examples:
        >>> import fmstats, torch
        >>> model = torch.nn.Sequential(torch.nn.ReLU())
        >>> profile = fmstats.profile(model, -torch.rand(400, 2), progress=False)
        >>> print(fmstats.diagnose(profile, rules="never-active").findings[0])
        warning  0  never-active: 2 of 2 channels (0, 1): exactly 0 in each of 400 finite elements
    """
    check_profile(profile, "diagnose()")
    of = read_text(profile.metadata, "of", "output")
    chosen, applied = choose_rules(rules, formats, of), choose_thresholds(thresholds)
    layers = observe(profile)
    verdicts = {name: chosen.judge(name, layers, applied) for name in chosen.rules}
    findings = _mark_repeats(layers, list(_find(layers, verdicts, applied)))
    lacking = list(_lack(layers, verdicts, applied))
    unseen, unmeasured = _list_unseen(profile), _find_unmeasured(layers, chosen.rules)
    counted = _choose_counted(layers, verdicts, findings)
    return Diagnosis(
        sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity)),
        lacking,
        chosen.rules,
        applied,
        widen(_measure(layers, counted, findings, lacking, unmeasured), len(unseen))
        | measure_run(profile.metadata),
        len(layers),
        unseen,
        tuple(name_unmasked(profile.info)),
        unmeasured,
        tuple(_measure_layers(layers, counted, findings, lacking)),
        _list_not_measured(profile),
    )


def _list_unseen(profile: Profile) -> tuple[str, ...]:
    rows = read_rows(profile.metadata, "coverage")
    return tuple(describe_row(row) for row in rows if row.get("status") == UNSEEN)


def _list_not_measured(profile: Profile) -> tuple[str, ...]:
    rows = read_rows(profile.metadata, "coverage")
    return tuple(
        str(row.get("name")) for row in rows if row.get("status") not in (UNSEEN, UNMASKED)
    )


def _find_unmeasured(layers: Sequence[Observed], rules: Sequence[str]) -> dict[str, str]:
    """Return the measures that rules would need and no layer has, by rule."""
    measured = {name for layer in layers for name in layer.stats.measures.names}
    needs = {name: RULES[name].needs for name in rules if layers}
    return {name: measure for name, measure in needs.items() if measure and measure not in measured}


def _find(
    layers: Sequence[Observed], verdicts: Verdicts, thresholds: RuleThresholds
) -> Iterator[Finding]:
    """Yield the findings in the order of execution."""
    for layer in layers:
        for name, of_layers in verdicts.items():
            verdict = of_layers[layer.index]
            if verdict is None:
                continue
            where = verdict.hit & ~_covered_by(RULES[name].yields_to, verdicts, layer)
            if where.any():
                yield _describe(layer, name, verdict, where, thresholds)


def _covered_by(others: Sequence[str], verdicts: Verdicts, layer: Observed) -> Mask:
    covered = np.zeros(1, dtype=bool)
    for other in others:
        verdict = verdicts[other][layer.index] if other in verdicts else None
        if verdict is not None:
            covered = covered | verdict.hit
    return covered


def _describe(
    layer: Observed, name: str, verdict: Verdict, where: Mask, thresholds: RuleThresholds
) -> Finding:
    rule, text = RULES[name], verdict.describe(where)
    by_channel = rule.unit == "channels"
    count = layer.stats.count[where] if by_channel else layer.whole.count
    seen = {"calls": layer.profile.calls, "samples": layer.samples, "elements": int(count.min())}
    return Finding(
        layer=layer.name,
        type=layer.type,
        rule=name,
        severity=text.severity or rule.severities[0],
        message=text.message,
        channels=tuple(map(int, np.flatnonzero(where))) if by_channel else (),
        width=layer.stats.channels,
        evidence={**seen, **text.numbers},
        thresholds={threshold: thresholds[threshold] for threshold in rule.thresholds},
        advice=rule.advice,
        follows=text.follows,
    )


def _mark_repeats(layers: Sequence[Observed], findings: Sequence[Finding]) -> list[Finding]:
    """Say which findings show channels that the layer right before shows, in the same family."""
    index = {layer.name: layer.index for layer in layers}
    marked: list[list[Finding]] = [[] for _ in layers]
    for finding in findings:
        place = index[finding.layer]
        before = marked[place - 1] if place else []
        marked[place].append(_mark(finding, [other for other in before if _akin(finding, other)]))
    return [finding for of_layer in marked for finding in of_layer]


def _akin(a: Finding, b: Finding) -> bool:
    family = RULES[a.rule].family
    same = family is not None and family == RULES[b.rule].family
    return same and a.width == b.width and a.severity == b.severity


def _mark(finding: Finding, before: Sequence[Finding]) -> Finding:
    """Return `finding`; it follows earlier findings if they explain all of its channels."""
    mine = set(finding.channels)
    explaining = [other for other in before if mine & set(other.channels) or not mine]
    if not explaining or mine - set().union(*(other.channels for other in explaining)):
        return finding
    return replace(finding, follows=explaining[0].follows or explaining[0].layer)


def _lack(
    layers: Sequence[Observed], verdicts: Verdicts, thresholds: RuleThresholds
) -> Iterator[NotEnoughData]:
    for layer in layers:
        for name, of_layers in verdicts.items():
            verdict = of_layers[layer.index]
            if verdict is None or verdict.judged.all():
                continue
            unjudged = ~verdict.judged
            number = int(unjudged.sum()) if RULES[name].unit == "channels" else None
            reason = verdict.lacks or why_too_little(layer, unjudged, thresholds)
            yield NotEnoughData(layer.name, name, number, reason)


def _measure(
    layers: Sequence[Observed],
    counted: Verdicts,
    findings: Sequence[Finding],
    lacking: Sequence[NotEnoughData],
    unmeasured: Mapping[str, str],
) -> dict[str, Measure]:
    shares = {
        name: measure_share(of_layers, RULES[name].unit, unmeasured.get(name))
        for name, of_layers in counted.items()
    }
    return shares | measure_counts(layers, _count(findings, lacking))


def _measure_layers(
    layers: Sequence[Observed],
    counted: Verdicts,
    findings: Sequence[Finding],
    lacking: Sequence[NotEnoughData],
) -> Iterator[LayerMeasures]:
    """Yield the same measures of each layer."""
    for layer in layers:
        own = {name: of_layers[layer.index] for name, of_layers in counted.items()}
        shares = {
            name: measure_share([verdict], RULES[name].unit)
            for name, verdict in own.items()
            if verdict is not None
        }
        counts = _count(
            [finding for finding in findings if finding.layer == layer.name],
            [row for row in lacking if row.layer == layer.name],
        )
        measures = shares | measure_counts([layer], counts)
        yield LayerMeasures(layer.name, layer.type, layer.stats.channels, measures)


def _choose_counted(
    layers: Sequence[Observed], verdicts: Verdicts, findings: Sequence[Finding]
) -> Verdicts:
    """Leave out the verdicts on layers to which the rule means nothing: they would dilute shares.

    Those layers count that the rule is about (`Rule.among`) and that do not merely pass on what
    they receive, and others in which it finds something that no layer before shows. Where the rule
    is about none of the layers, all count.
    """
    new = {(_group(f.rule), f.layer) for f in findings if f.follows is None}
    chosen = {}
    for name, of_layers in verdicts.items():
        among = RULES[name].among or (lambda layer: True)
        about = [among(layer) and not passes_on(layer) for layer in layers]
        if not any(a and v is not None for a, v in zip(about, of_layers, strict=True)):
            about = [True] * len(layers)
        chosen[name] = [
            of_layers[i] if about[i] or (_group(name), layer.name) in new else None
            for i, layer in enumerate(layers)
        ]
    return chosen


def _group(rule: str) -> str:
    return RULES[rule].family or rule


def _count(
    findings: Sequence[Finding], lacking: Sequence[NotEnoughData]
) -> dict[str, tuple[int, int]]:
    """Count the findings that repeat no other, and those that there could be with more data."""
    first = [finding.severity for finding in findings if finding.follows is None]
    counts = {"findings": (len(first), len(lacking))}
    for severity in SEVERITIES:
        more = sum(severity in RULES[row.rule].severities for row in lacking)
        counts[f"{severity}s"] = first.count(severity), more
    return counts
