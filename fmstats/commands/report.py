"""Run `fmstats report`: write a profile as one HTML page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from fmstats.commands.app import app, keep_lines
from fmstats.commands.baselines import (
    Missing,
    MissingOption,
    OnlyCommonOption,
    ThresholdOption,
    compare_with,
    read_only_common,
)
from fmstats.commands.completion import complete_profiles
from fmstats.output.terminal import print_blocks
from fmstats.report import check_report, write_report
from fmstats.storage import load

_EXAMPLES = "\n\n".join(
    [
        keep_lines(
            "Examples:",
            "fmstats report run.fmstats -o report.html",
            "fmstats report today.fmstats --baseline march-*.fmstats -o today.html",
        ),
        "The page is one file and needs no network. It shows the findings, curves over all layers, "
        "drift, every channel of every layer, and how the run was made. See docs/report.md.",
    ]
)


class _TakingSeveral(TyperCommand):
    """Lets --baseline take all files up to the next option, as a shell lists them."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, list(_repeat("--baseline", args)))


def _repeat(option: str, arguments: list[str]) -> Iterator[str]:
    """Repeat the option before its second and every later value."""
    values = None  # of the option, while they go on
    for argument in arguments:
        if argument == option:
            values = 0
        elif argument.startswith(f"{option}="):
            values = 1
        elif argument.startswith("-"):
            values = None
        elif values is not None:
            values += 1
            if values > 1:
                yield option
        yield argument


@app.command(cls=_TakingSeveral, epilog=_EXAMPLES)
def report(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="A profile (.fmstats), written by --out or Profile.save. Give it before "
            "--baseline, which takes all files up to the next option.",
            autocompletion=complete_profiles,
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Write the page to FILE (.html).")
    ],
    baseline: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILES...",
            help="Show drift from this profile, or from three or more shards of it, which also "
            "show how much profiles differ by chance.",
            autocompletion=complete_profiles,
        ),
    ] = None,
    threshold: ThresholdOption = None,
    missing: MissingOption = Missing.refuse,
    only_common: OnlyCommonOption = False,
) -> None:
    """Write a profile as one HTML page: findings, curves, drift, every channel."""
    check_report(out)
    profile = load(run)
    comparison = None
    if baseline:
        dropped = read_only_common(only_common, missing)
        comparison = compare_with(run, profile, baseline, threshold=threshold, missing=dropped)
    write_report(profile, out, comparison)
    print_blocks(f"Written to {out}: {out.stat().st_size / 1e6:.1f} MB")
