"""`fmstats backends`: what can compute the statistics here."""

from __future__ import annotations

import typer

from fmstats.backends import list_backends
from fmstats.commands.app import app, keep_lines
from fmstats.tables import format_table


@app.command(epilog=keep_lines("Examples:", "fmstats backends"))
def backends() -> None:
    """List what can compute the statistics, and what cannot and why."""
    rows = [
        (row.name, "yes" if row.usable else "no", row.devices, row.detail)
        for row in list_backends()
    ]
    typer.echo(format_table(("name", "usable", "devices", "detail"), rows, left=4))
