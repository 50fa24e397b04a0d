"""The one exception that fmstats raises on purpose.

Every message names the state found, what was asked for, and the choices left.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterable, Iterator


class FmstatsError(ValueError):
    """fmstats cannot serve a request: bad input, a missing backend, a model it cannot read.

    Examples:
        >>> import torch
        >>> fmstats.channel_stats(torch.ones(2, 3), zero_tol=-1)
        Traceback (most recent call last):
        fmstats.errors.FmstatsError: zero_tol must be finite and not negative, got -1
    """


@contextlib.contextmanager
def needs(asked: str, package: str, install: str) -> Iterator[None]:
    """Within it, import an optional package that was `asked` for, such as by "overlay()".

    Args:
        asked: what needs it.
        package: what it is called.
        install: what pip is to install, such as "'fmstats[viz]'".

    Raises:
        FmstatsError: the package, or one that it needs, cannot be imported.
    """
    try:
        yield
    except ImportError as error:
        raise FmstatsError(f"{asked} needs {package}: pip install {install} ({error})") from error


def check_whole(name: str, value: object) -> None:
    """Refuse a value of the option `name` that is no whole number from 1.

    Raises:
        FmstatsError: it is of another type, a bool included, or less than 1.
    """
    if type(value) is not int or value < 1:
        raise FmstatsError(f"{name}={value!r}: give a whole number, 1 or more")


def find_closest(name: str, names: Iterable[str], count: int = 5) -> list[str]:
    """Up to `count` of `names` that resemble `name`, the closest first."""
    return difflib.get_close_matches(name, sorted(set(names)), n=count, cutoff=0.6)


def list_closest(name: str, names: Iterable[str], count: int = 5) -> str:
    """As `find_closest`, as text; the first few of all where none resembles it."""
    choices = sorted(set(names))
    return ", ".join(find_closest(name, choices, count) or choices[:count]) or "none"
