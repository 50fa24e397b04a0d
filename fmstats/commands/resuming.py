"""Define `--resume`, and tell what was resumed, or can be."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

import typer

from fmstats.profiles.profile import Profile
from fmstats.runs import RunInterrupted
from fmstats.storage.exports import write_profile


class Resume(str, Enum):
    """Says when to resume from a checkpoint."""

    auto = "auto"
    trust = "trust"


def describe_resumed(result: Profile, checkpoint: Path | None, resume: Resume) -> list[str]:
    """Tell in lines what a run took over from a checkpoint; none if it took over nothing."""
    known = result.metadata
    there, whole, unit = known["resumed"], known["samples"], "samples"
    if there is None or whole is None:
        there, whole, unit = known["resumed_batches"], known["batches"], "batches"
    if not known["resumed_batches"]:
        return []
    of = "its weights, code, data and options were compared and are the same"
    if resume is Resume.trust:
        of = "its weights, code and data were trusted, not all compared"
    lines = [f"Resumed from {checkpoint}, which had {there} of {whole} {unit}; {of}"]
    if known["resumed_batches"] == known["batches"]:
        complete = "which is complete: nothing was run"
        lines = [f"All {whole} {unit} were in {checkpoint}, {complete}; {of}"]
    return lines + [f"Trusted: {text}" for text in known.get("trusted", [])]


def describe_interrupted(stop: RunInterrupted, out: Path | None) -> None:
    """Say what has become of an interrupted run; without a checkpoint, write its profile."""
    typer.echo(f"\n{stop}", err=True)
    if stop.checkpoint is not None:
        typer.echo("To resume, give the same command again", err=True)
    elif out is not None and stop.profile is not None:
        stop.profile.metadata["interrupted"] = True
        write_profile(stop.profile, out)
        typer.echo(f"What was measured so far is written to {out}", err=True)
