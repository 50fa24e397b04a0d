"""Run `fmstats demo`: profile a trained network on photographs, without any download."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fmstats.commands.app import BackendOption, app, keep_lines
from fmstats.demo import run_demo
from fmstats.output.terminal import print_blocks
from fmstats.storage.exports import check_output, write_profile


@app.command(
    epilog=keep_lines(
        "Examples:",
        "fmstats demo --out demo.fmstats",
        "fmstats report demo.fmstats -o demo.html",
        "fmstats demo --crops 0 --backend reference",
    )
)
def demo(
    crops: Annotated[
        int, typer.Option(metavar="N", min=0, help="Random crops per photograph.")
    ] = 8,
    batch_size: Annotated[
        int, typer.Option(metavar="N", min=1, help="Images per forward pass.")
    ] = 16,
    backend: BackendOption = "auto",
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write the profile: .fmstats, .json or .csv."),
    ] = None,
) -> None:
    """Profile a trained network on photographs, without any download."""
    if out is not None:
        check_output(out)
    profile = run_demo(print_blocks, crops=crops, batch_size=batch_size, backend=backend)
    if out is not None:
        write_profile(profile, out)
    print_blocks(*_suggest(out))


def _suggest(out: Path | None) -> list[str]:
    """Say what to try next, with commands to copy."""
    if out is None or out.suffix.lower() != ".fmstats":
        return ["", "To go on, keep the profile: fmstats demo --out demo.fmstats"]
    return [
        "",
        f"Written to {out}. Try next:",
        f"  fmstats report {out} -o {out.with_suffix('.html')}   # a page for a browser",
        f"  fmstats show {out} --sort sparsity --top 10",
        f"  fmstats diagnose {out} --infos",
        "  fmstats profile YOUR_FILE.py:make_model --data YOUR_PHOTOS/",
    ]
