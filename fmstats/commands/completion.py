"""Complete words of a command line for the shell.

Where nothing is offered, the shell offers files and folders itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence

import typer

from fmstats.analysis.roofline import GPUS
from fmstats.backends import BACKENDS
from fmstats.calibration import METHODS, SCHEMES
from fmstats.diagnosis import RULES
from fmstats.errors import FmstatsError
from fmstats.output.tables import Column
from fmstats.storage import load
from fmstats.tracking.positions import MASKS

_PROFILES = ("file", "now", "run")  # what commands call the profile that they are about


def complete_profiles(incomplete: str) -> list[str]:
    """Profile files."""
    return _list_files(incomplete, (".fmstats",))


def complete_models(incomplete: str) -> list[str]:
    """Complete files that MODEL can begin with, but not modules and libraries."""
    return _list_files(incomplete, (".py", ".pt2"))


def complete_backends(incomplete: str) -> list[str]:
    """Complete the values of --backend."""
    return _begin(["auto", *(backend.name for backend in BACKENDS)], incomplete)


def complete_rules(incomplete: str) -> list[str]:
    """Complete the values of --rule."""
    return _begin(RULES, incomplete)


def complete_schemes(incomplete: str) -> list[str]:
    """Complete the values of --scheme."""
    return _begin(SCHEMES, incomplete)


def complete_methods(incomplete: str) -> list[str]:
    """Complete the values of --method."""
    return _begin(METHODS, incomplete)


def complete_masks(incomplete: str) -> list[str]:
    """Complete the values of --mask: those that models of transformers have."""
    return _begin(["auto", *MASKS], incomplete)


def complete_groups(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete names of groups, by the profile that the command line names before."""
    # Where --group is the last word, it lacks its value, and other words have no names yet.
    named = [*map(ctx.params.get, _PROFILES), *ctx.args]
    try:
        groups = load(next(filter(None, named))).groups
    except (StopIteration, FmstatsError):
        return []
    return _begin([name for name in groups if " " not in name], incomplete)


def complete_gpus(incomplete: str) -> list[str]:
    """Complete the values of --gpu, except names of two words, which a shell would split."""
    return _begin([name for name in GPUS if " " not in name], incomplete)


def list_columns(columns: Sequence[Column]) -> Callable[[str], list[str]]:
    """Make a function that completes --sort: column names, and headings of one word."""
    words = dict.fromkeys(word for c in columns for word in (c.name, c.title) if " " not in word)

    def complete_columns(incomplete: str) -> list[str]:
        return _begin(words, incomplete)

    return complete_columns


def _begin(words: Iterable[str], incomplete: str) -> list[str]:
    return [word for word in words if word.startswith(incomplete)]


def _list_files(incomplete: str, suffixes: tuple[str, ...]) -> list[str]:
    folder, start = os.path.split(incomplete)
    try:
        names = sorted(os.listdir(folder or "."))
    except OSError:
        return []
    files = [name for name in _begin(names, start) if name.endswith(suffixes)]
    return [os.path.join(folder, name) for name in files]
