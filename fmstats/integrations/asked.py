"""Check what callbacks of training loops are asked for, before training begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import fmstats
from fmstats.errors import check_whole
from fmstats.profiles.scalars import require_measures
from fmstats.tracking.nonfinite import check_action

_NOT_HERE = {
    "when": "training and validation are told apart by the framework",
    "budget": "every= says which share of the batches is measured",
}


def check_options(
    every: int,
    log_every_n_steps: int | None,
    stats: str | Iterable[str] | None,
    options: Mapping[str, Any],
) -> tuple[str, ...] | None:
    """Refuse now what would fail, or not do what it says, in the midst of a training run.

    Returns:
        The names of the statistics, to be gone through many times; None for the usual ones.

    Raises:
        FmstatsError: a number below 1, an unknown statistic, or an option of `fmstats.track` that
            is not for here.
    """
    check_whole("every", every)
    if log_every_n_steps is not None:
        check_whole("log_every_n_steps", log_every_n_steps)
    check_action(options.get("on_nonfinite", "ignore"))
    for name in _NOT_HERE.keys() & options.keys():
        raise fmstats.FmstatsError(f"{name}= is not for a training loop: {_NOT_HERE[name]}")
    chosen = (stats,) if isinstance(stats, str) else None if stats is None else tuple(stats)
    fmstats.Profile({}, {}).scalars(chosen)  # refuses unknown ones
    measure = options.get("measure") or ()
    measures = (measure,) if isinstance(measure, str) else tuple(measure)
    require_measures(chosen or (), measures)
    return chosen
