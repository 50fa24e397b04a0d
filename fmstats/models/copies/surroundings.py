"""Globals, class attributes, closures and defaults hold copies for the time of a look."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from fmstats.models.copies.kinds import MISSING, contents_of
from fmstats.models.copies.namespaces import Space, is_code, is_data, is_special
from fmstats.models.copies.reach import Reach

# Of two looks at once, the one would put back the copies of the other.
_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def kept(reach: Reach) -> Iterator[None]:
    """Have the code of what was copied meet copies, for the time of a look; nothing stays."""
    copier = reach.copier
    with _one_at_a_time:
        reach.follow()
        spaces = [(space, dict(space.read())) for space in reach.spaces.values()]
        cells = [(cell, contents_of(cell)) for cell in reach.cells.values()]
        functions = [(f, f.__defaults__, f.__kwdefaults__) for f in reach.functions.values()]
        try:
            for space, held in spaces:
                for name, value in held.items():
                    twin = copier.copy(value) if space.takes(name, value) else value
                    if twin is not value:
                        space.write(name, twin)
            for cell, contents in cells:
                if is_data(contents):
                    cell.cell_contents = copier.copy(contents)
            for function, defaults, named in functions:
                if defaults or named:
                    function.__defaults__ = copier.copy(defaults)
                    function.__kwdefaults__ = copier.copy(named)
            yield
        finally:
            for function, defaults, named in functions:
                if function.__defaults__ is not defaults or function.__kwdefaults__ is not named:
                    function.__defaults__, function.__kwdefaults__ = defaults, named
            for cell, contents in cells:
                if contents_of(cell) is not contents:
                    if contents is MISSING:
                        del cell.cell_contents
                    else:
                        cell.cell_contents = contents
            for space, held in spaces:
                _put_back(space, held)


def _put_back(space: Space, held: Mapping[Any, Any]) -> None:
    now = dict(space.read())
    for name, value in held.items():
        if now.get(name, MISSING) is not value and _counts(space, name):
            space.write(name, value)
    for name in now.keys() - held.keys():
        # A name for code is what an import left, which may stay.
        if _counts(space, name) and not is_code(now[name]):
            space.erase(name)


def _counts(space: Space, name: object) -> bool:
    return space.has(name) and not is_special(name)
