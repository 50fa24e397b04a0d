"""Make text from elsewhere readable: no invisible characters, and a limited length.

Names of layers come from files of others. Markup is the template's matter, which escapes all text;
this is about marks that change the direction of writing, control characters, and endless names.
"""

from __future__ import annotations

from fmstats.output.tables import make_printable

MOST_SHOWN = 500  # characters of a text


def make_readable(text: str, most: int = MOST_SHOWN) -> str:
    """Return a text without invisible characters, cut off after `most` characters."""
    rest = len(text) - most
    shown = make_printable(text[:most])
    return f"{shown}... ({rest:,} more characters)" if rest > 0 else shown
