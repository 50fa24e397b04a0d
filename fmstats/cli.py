"""The entry point of the command line.

It can be imported without typer. An FmstatsError, from wherever, becomes one line on stderr and the
exit code 2, the same code as for a wrong option; any other exception is a bug and shows its trace.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from fmstats.errors import FmstatsError
from fmstats.tables import make_printable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (None: those of the process) name.

    Returns:
        2 where typer is missing or fmstats refused the request. Otherwise the command ends the
        process itself: 0 when done, 2 for wrong usage.
    """
    try:
        from fmstats.commands import app
    except ModuleNotFoundError as error:
        if error.name != "typer":
            raise
        print("error: the command line needs typer: pip install 'fmstats[cli]'", file=sys.stderr)
        return 2
    try:
        app(args=None if arguments is None else list(arguments), prog_name="fmstats")
    except FmstatsError as error:
        print(f"error: {make_printable(str(error))}", file=sys.stderr)
        return 2
    return 0
