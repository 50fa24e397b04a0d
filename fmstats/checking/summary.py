"""Say in about ten lines what ran, what was found, and what was not looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from fmstats.checking.verdicts import describe_verdict
from fmstats.diagnosis import SEVERITIES, Diagnosis, Finding, Outcome
from fmstats.drift import Comparison
from fmstats.output.tables import (
    format_number,
    format_plural,
    format_share,
    make_printable,
    name_some,
)
from fmstats.profiles.metadata import name_model, read_count, read_number, read_text
from fmstats.profiles.profile import Profile
from fmstats.profiles.summary import find_left_out

_TOP = 3  # layers and rules that a line names


def summarise(
    profile: Profile,
    diagnosis: Diagnosis,
    comparison: Comparison | None = None,
    outcomes: Sequence[Outcome] = (),
    *,
    fail_on_drift: bool = False,
    problems: Sequence[str] = (),
    name: str | None = None,
    seconds: float | None = None,
    written: Sequence[Path] = (),
) -> str:
    """Say what was run and found: the verdict first, then a line for each subject.

    Args:
        profile: of a run.
        diagnosis: of the profile.
        comparison: of the profile with its baseline.
        outcomes: of conditions to fail on.
        fail_on_drift: whether drift fails the check.
        problems: what could not be done.
        name: what the check is called; None: the class of the model.
        seconds: that all of it took; None: those of the run.
        written: files, to be named.
    """
    lines = [
        describe_verdict(outcomes, comparison, fail_on_drift, problems),
        *(f"problem: {problem}" for problem in problems),
        _describe_run(profile, name, seconds),
        *_describe_findings(diagnosis),
        *(f"condition {outcome}" for outcome in outcomes),
        *([] if comparison is None else [_describe_drift(comparison)]),
        *_describe_unseen(diagnosis),
    ]
    if written:
        lines.append(f"written: {', '.join(map(str, written))}")
    return "\n".join(map(make_printable, lines))


def _describe_run(profile: Profile, name: str | None, seconds: float | None) -> str:
    metadata = profile.metadata
    data = read_text(metadata, "data")
    parts = [_count_data(metadata)]
    skipped = find_left_out(metadata)
    if skipped.number:
        example = f", such as {skipped.entries[0]}" if skipped.entries else ""
        parts.append(f"{skipped.number:,} left out{example}")
    parts.append(f"{format_plural(len(profile), 'layer')} measured")
    passes, measured = (read_count(metadata, key) for key in ("passes", "passes_measured"))
    if passes is not None and measured is not None and measured < passes:
        parts.append(f"in {measured:,} of {passes:,} passes")
    took = read_number(metadata, "seconds") if seconds is None else seconds
    if took is not None:
        share = read_number(metadata, "statistics_share")
        of_it = "" if share is None else f" ({format_share(share)} of the run for statistics)"
        parts.append(f"{took:.1f} s{of_it}")
    resumed = read_count(metadata, "resumed_batches")
    if resumed:
        parts.append(f"{resumed:,} of {metadata['batches']:,} batches from the checkpoint")
    return f"{name or name_model(metadata)}{f' on {data}' if data else ''}: {', '.join(parts)}"


def _count_data(metadata: Mapping[str, object]) -> str:
    samples = read_count(metadata, "samples")
    if samples is not None:
        return format_plural(samples, "sample")
    return f"batches: {read_count(metadata, 'batches') or 'unknown'}, samples unknown"


def _describe_findings(diagnosis: Diagnosis) -> Iterator[str]:
    """Yield a line for each severity that there is."""
    for severity in SEVERITIES:
        found = [f for f in diagnosis if f.severity == severity and f.follows is None]
        if found:
            gravest = max(found, key=_share_hit)
            layers = format_plural(len({finding.layer for finding in found}), "layer")
            yield (
                f"{severity}: {format_plural(len(found), 'finding')} in {layers}, the gravest in "
                f"{gravest.layer}: {gravest.rule}, {gravest.message}"
            )
    if not diagnosis.findings:
        yield "findings: none in what was judged"


def _share_hit(finding: Finding) -> float:
    """Return the share of the layer's channels that a finding is about; 1 for all of it."""
    return len(finding.channels) / finding.width if finding.channels else 1.0


def _describe_drift(comparison: Comparison) -> str:
    score, limit = format_number(comparison.score), format_number(comparison.threshold)
    parts = [f"score {score}, drift if >= {limit}"]
    top = [row for row in comparison.top_layers(_TOP) if row["score"] is not None]
    if top:
        named = (f"{row['layer']} ({format_number(row['score'])})" for row in top)
        parts[0] += f", highest in {', '.join(named)}"
    parts += comparison.reasons
    if comparison.left_out:
        left_out = name_some(list(comparison.left_out), _TOP)
        parts.append(
            f"{format_plural(len(comparison.left_out), 'layer')} not compared ({left_out})"
        )
    return f"{comparison.verdict}: {'; '.join(parts)}"


def _describe_unseen(diagnosis: Diagnosis) -> list[str]:
    """Return a line on what nothing is known of, so that nobody takes it for well."""
    gaps = diagnosis.scope.gaps
    return [f"not looked at: {'; '.join(gaps)}"] if gaps else []
