"""`fmstats demo`: a trained network over photographs, without any download."""

from __future__ import annotations

from typing import Annotated

import typer

from fmstats.commands.app import app, keep_lines
from fmstats.demo import run_demo


@app.command(
    epilog=keep_lines("Examples:", "fmstats demo", "fmstats demo --crops 0 --backend reference")
)
def demo(
    crops: Annotated[
        int, typer.Option(metavar="N", min=0, help="Random crops of each photograph.")
    ] = 8,
    batch_size: Annotated[
        int, typer.Option(metavar="N", min=1, help="Images per forward pass.")
    ] = 16,
    backend: Annotated[str, typer.Option(help="See 'fmstats backends'.")] = "auto",
) -> None:
    """Profile a trained network on photographs, without any download."""
    run_demo(typer.echo, crops=crops, batch_size=batch_size, backend=backend)
