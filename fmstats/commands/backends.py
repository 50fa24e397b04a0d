"""Run `fmstats backends`: list what can compute the statistics here."""

from __future__ import annotations

from fmstats.backends import list_backends
from fmstats.commands.app import app, keep_lines
from fmstats.output.tables import format_table
from fmstats.output.terminal import print_blocks


@app.command(epilog=keep_lines("Examples:", "fmstats backends"))
def backends() -> None:
    """List what can compute the statistics.

    Of each backend that cannot be used here it says why.
    """
    rows = [
        (row.name, "yes" if row.usable else "no", row.devices, row.detail)
        for row in list_backends()
    ]
    # As a text: on a narrow terminal, reasons are broken and none is left out.
    print_blocks(format_table(("name", "usable", "devices", "detail"), rows, left=4))
