"""These rules name the rows of a profile.

A row is of one layer, under `per_call` of one of its calls, and of one width: a number of channels.
Most layers show one width, and their row has the layer's name, or `name#2` for the third call. A
layer that shows several has `name@64` and `name@256`, or `name#2@64` and `name#2@256`.

Names follow from the rows of a profile alone, so that profiles merged in any order agree in them,
and no two rows share one. In files the rows of a group have its name as well: `name|cat@64`. Where
a layer's own name ends as that of a width, as a module called
`norm@64`, each of its rows has its width.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from fmstats.errors import FmstatsError

MOST_CALLS = 4096  # rows of one layer under per_call, one for each call in a forward pass

_LIKE_WIDTH = re.compile(r"@(0|[1-9][0-9]*)\Z")
_LIKE_CALL = re.compile(r"(.*)#(0|[1-9][0-9]{0,3})\Z", re.DOTALL)


class RowKey(NamedTuple):
    """A key tells what a row is of.

    Attributes:
        layer: the module's name.
        call: which of its calls in a forward pass, from 0; None where all are taken together.
        width: channels.
        group: of its positions; None where all are taken together.
    """

    layer: str
    call: int | None
    width: int
    group: str | None = None

    @property
    def base(self) -> str:
        """Return the name without the width."""
        name = self.layer if self.call is None else f"{self.layer}#{self.call}"
        return name if self.group is None else f"{name}|{self.group}"

    @property
    def full(self) -> str:
        """Return the name with the width."""
        return f"{self.base}@{self.width}"

    @property
    def usual(self) -> str:
        """Return the name where no other width is known."""
        return self.full if self.call is None and _LIKE_WIDTH.search(self.layer) else self.base


def name_rows(keys: Iterable[RowKey]) -> dict[RowKey, str]:
    """Return the name of each row of a profile, given all of them.

    Raises:
        FmstatsError: some rows are of calls and others of layers, in one and the same name.
    """
    listed = list(dict.fromkeys(keys))
    widths = Counter(key.base for key in listed)
    names = {key: key.full if widths[key.base] > 1 else key.usual for key in listed}
    if len(set(names.values())) < len(names):
        twice, _ = Counter(names.values()).most_common(1)[0]
        raise FmstatsError(
            f"two layers would be called {twice!r}: profiles made with per_call=True and without "
            "do not go together"
        )
    return names


def read_name(name: str, per_call: bool) -> tuple[str, int | None]:
    """Read the layer and the call of a row from its name alone, as fmstats 0.1 told it.

    Args:
        name: of the row; `l#3` is of a call, `l#03` and `l#` before other digits are not.
        per_call: whether the profile has a row for each call.
    """
    found = _LIKE_CALL.match(name) if per_call else None
    if found is None or int(found[2]) >= MOST_CALLS:
        return name, None
    return found[1], int(found[2])
