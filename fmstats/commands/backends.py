"""Run `fmstats backends`: list the backends that can measure here."""

from __future__ import annotations

from fmstats.backends import list_backends
from fmstats.commands.app import app, keep_lines
from fmstats.output.tables import format_table
from fmstats.output.terminal import print_blocks


@app.command(epilog=keep_lines("Examples:", "fmstats backends"))
def backends() -> None:
    """List the backends and their devices.

    A backend measures tensors. The list says why one cannot be used here.
    """
    rows = [
        (row.name, "yes" if row.usable else "no", row.devices, row.detail)
        for row in list_backends()
    ]
    # As a text: on a narrow terminal, reasons are broken and none is left out.
    print_blocks(format_table(("name", "usable", "devices", "detail"), rows, left=4))
