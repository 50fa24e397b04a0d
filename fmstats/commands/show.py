"""`fmstats show`: what is in a profile file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fmstats.commands.app import app, keep_lines
from fmstats.outputs import describe_run, format_json
from fmstats.storage import load


@app.command(
    epilog=keep_lines("Examples:", "fmstats show run.fmstats", "fmstats show run.fmstats --json")
)
def show(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A profile: .fmstats, from --out or Profile.save")
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print everything as JSON, findings included.")
    ] = False,
) -> None:
    """Show a profile file: what was run, a row per layer, and what is wrong."""
    profile = load(file)
    if as_json:
        findings = profile.diagnose().to_dict()["findings"]
        typer.echo(format_json({**profile.to_dict(), "findings": findings}), nl=False)
        return
    channels = sum(stats.channels for stats in profile.values())
    model = profile.metadata.get("model", "an unknown model")
    typer.echo(f"{file}: {len(profile)} layers of {model}, {channels:,} channels")
    typer.echo(describe_run(profile))
