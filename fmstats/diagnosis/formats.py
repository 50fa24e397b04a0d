"""Layers whose numbers a small float format would not hold.

A profile has no histogram, but two facts bound what would be lost by a cast without a scale:
abs_max, and Markov's inequality on squares: at most (rms / x)^2 of the elements are as large as x.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from fmstats.derived import Array
from fmstats.diagnosis.limits import Limits
from fmstats.diagnosis.observed import Mask, Observed, Told, Verdict, enough, name_channels


@dataclass(frozen=True)
class Format:
    """A float format, and the name that torch has for it.

    Attributes:
        largest: its largest finite number.
        smallest_normal: below it, digits are lost, and soon everything.
    """

    name: str
    dtype: str
    largest: float
    smallest_normal: float


FORMATS = (
    Format("float16", "float16", 65504.0, 2.0**-14),
    Format("bfloat16", "bfloat16", 255 * 2.0**120, 2.0**-126),
    Format("e4m3", "float8_e4m3fn", 448.0, 2.0**-6),
    Format("e5m2", "float8_e5m2", 57344.0, 2.0**-14),
)


def _at_risk(layer: Observed, limits: Limits, *, form: Format) -> Verdict:
    stats, sure = layer.stats, enough(layer, limits)
    has = stats.finite_count > 0
    largest = np.where(has, stats.abs_max, 0.0)
    nonzero = np.maximum(stats.finite_count - stats.zeros, 0)
    some = has & (nonzero > 0)
    rms = np.where(has, stats.rms, 0.0)
    # Of the elements that are not 0, which a cast keeps.
    scale = np.where(some, rms * np.sqrt(stats.finite_count / np.maximum(nonzero, 1)), np.inf)
    over = has & (largest * limits["headroom"] > form.largest)
    under = sure & (scale > 0) & (scale < form.smallest_normal)
    severity = "warning" if layer.profile.dtype == form.dtype else None

    def tell(where: Mask) -> Told:
        words, numbers = [], {"largest": form.largest, "smallest_normal": form.smallest_normal}
        if (where & over).any():
            words.append(_tell_over(form, largest[where & over], rms[where & over], numbers))
        if (where & under).any():
            words.append(_tell_under(form, scale[where & under], numbers))
        return Told(f"{name_channels(where)}: {'; '.join(words)}", numbers, severity)

    # One large element is proof; that there is none takes evidence.
    return Verdict(sure | over, over | under, tell)


def _tell_over(form: Format, largest: Array, rms: Array, numbers: dict[str, float]) -> str:
    top = float(largest.max())
    numbers["abs_max"] = top
    text = f"up to {top:.4g} where {form.name} ends at {form.largest:.5g}"
    if top <= form.largest:
        return f"{text}, none beyond it"
    beyond = largest > form.largest
    share = float(np.minimum(np.square(rms[beyond] / form.largest), 1).max())
    numbers["beyond_at_most"] = share
    return f"{text}, beyond it at most {_percent(share)} of a channel's elements"


def _tell_under(form: Format, scale: Array, numbers: dict[str, float]) -> str:
    numbers["rms_of_nonzero"] = float(scale.min())
    share = float(1 - np.square(scale / form.smallest_normal).max())
    numbers["below_at_least"] = share
    return (
        f"rms {scale.min():.4g} where {form.name} loses digits below {form.smallest_normal:.4g}, "
        f"as at least {_percent(share)} of the nonzero elements of each do"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


RANGE_RULES: dict[str, Callable[[Observed, Limits], Verdict]] = {
    f"range-{form.name}": partial(_at_risk, form=form) for form in FORMATS
}
