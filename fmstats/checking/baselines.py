"""Read the baseline of a check: profiles, files, and globs that no shell has expanded."""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator
from pathlib import Path

from fmstats.drift import Baseline
from fmstats.errors import FmstatsError
from fmstats.output.files import refuse_repeated
from fmstats.profiles.profile import Profile
from fmstats.storage import load

Given = str | Path | Profile | Iterable[str | Path | Profile] | None


def read_baseline(given: Given, missing: str) -> Baseline | None:
    """Load the parts of a baseline and merge them; None where none is given.

    Args:
        given: profiles, files, or globs of files, which services and containers do not expand.
        missing: what to do with layers that not all of them have, "refuse" or "drop".

    Raises:
        FmstatsError: a file cannot be read or is given twice, a glob fits no file, the parts do
            not fit together, or there is no part.
    """
    if given is None:
        return None
    parts = list(_list_parts(given))
    if not parts:
        raise FmstatsError("baseline=[]: give a profile or a file, or None for no baseline")
    refuse_repeated(
        [part for part in parts if isinstance(part, Path)],
        "leave one out of the baseline, or it would count twice",
    )
    profiles = [part if isinstance(part, Profile) else load(part) for part in parts]
    return Baseline.of(profiles, missing)


def _list_parts(given: Given) -> Iterator[Path | Profile]:
    for part in [given] if isinstance(given, str | Path | Profile) else given or ():
        if isinstance(part, Profile):
            yield part
        elif isinstance(part, str | Path):
            yield from _expand(Path(part))
        else:
            raise FmstatsError(
                f"baseline has a {type(part).__name__}: give profiles, files or globs of files"
            )


def _expand(path: Path) -> list[Path]:
    if path.exists() or not glob.has_magic(str(path)):
        return [path]
    found = sorted(map(Path, glob.glob(str(path))))
    if not found:
        raise FmstatsError(f"baseline {str(path)!r}: no file fits")
    return found
