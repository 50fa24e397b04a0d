"""Find layers whose numbers a small float format would not represent.

A histogram tells the share of the elements that a cast would lose. Without one, two facts bound
it: abs_max, and Markov's inequality on squares: at most (rms / x)^2 of the elements are as large
as x.

Formats of 16 bits are cast to as they are. Those of 8 bits hold so little that they are used with a
scale for each tensor (Micikevicius et al. 2022): of them it is asked whether the channels of one
layer fit together, with the scale that just holds the largest of its numbers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from fmstats.diagnosis.counting import Counted, count_below, count_beyond
from fmstats.diagnosis.observed import FindingText, Mask, Observed, Verdict, enough, name_channels
from fmstats.diagnosis.thresholds import RuleThresholds
from fmstats.statistic.distribution import Array


@dataclass(frozen=True)
class Format:
    """Describes a float format, with torch's dtype name for it.

    Attributes:
        largest: its largest finite number.
        smallest_normal: below it, digits are lost, and soon everything.
        scaled: whether a tensor is scaled before it is cast.
    """

    name: str
    dtype: str
    largest: float
    smallest_normal: float
    scaled: bool = False


FORMATS = (
    Format("float16", "float16", 65504.0, 2.0**-14),
    Format("bfloat16", "bfloat16", 255 * 2.0**120, 2.0**-126),
    Format("e4m3", "float8_e4m3fn", 448.0, 2.0**-6, scaled=True),
    Format("e5m2", "float8_e5m2", 57344.0, 2.0**-14, scaled=True),
)
LARGEST = {form.dtype: form.largest for form in FORMATS} | {
    "float32": (2 - 2.0**-23) * 2.0**127,
    "float64": sys.float_info.max,
}


def _at_risk(layer: Observed, thresholds: RuleThresholds, *, form: Format) -> Verdict:
    stats, sure = layer.stats, enough(layer, thresholds)
    largest, rms = stats.abs_max, stats.rms  # NaN where nothing finite was seen
    stored = layer.profile.dtype == form.dtype
    unit, scaled = 1.0, form.scaled and not stored
    if scaled and stats.finite_count.any():
        # The scale that puts the layer's largest number at the end of the format.
        unit = float(np.nanmax(largest)) * thresholds["headroom"] / form.largest or 1.0
    nonzero = stats.finite_count - stats.zeros
    # Of the elements that are not 0, which a cast keeps.
    scale = np.where(
        nonzero > 0, rms * np.sqrt(stats.finite_count / np.maximum(nonzero, 1)), np.inf
    )
    smallest = form.smallest_normal * unit
    beyond, below = count_beyond(layer, form.largest), count_below(layer, smallest)
    if scaled:  # the scale holds what a cast without one would lose, which is worth a count alone
        over = (largest > form.largest) & (beyond is not None)
    else:
        over = largest * thresholds["headroom"] > form.largest
    bounded, counted = sure & (scale < smallest), np.zeros_like(sure)
    if below is not None:
        counted = sure & (nonzero > 0) & (below.share > thresholds["underflow"])
        bounded = bounded & ~counted & (not below.of_channels)
    severity = "warning" if stored else None
    how = f"{form.name}, scaled to the layer," if scaled else form.name

    def describe(where: Mask) -> FindingText:
        words, numbers = [], {"largest": form.largest * unit, "smallest_normal": smallest}
        if (where & over).any():
            words.append(_tell_end(form, float(largest[where & over].max()), scaled, numbers))
            beyond_it = where & over & (largest > form.largest)
            if not beyond_it.any():
                words[-1] += ", none beyond it"
            elif beyond is not None:
                words[-1] += _tell_beyond(beyond, beyond_it, numbers)
            else:
                words[-1] += _bound_beyond(form, rms[beyond_it], numbers)
        if below is not None and (where & counted).any():
            words.append(_tell_below(how, below, where & counted, smallest, numbers))
        if (where & bounded).any():
            words.append(_bound_below(how, scale[where & bounded], smallest, numbers))
        return FindingText(f"{name_channels(where)}: {'; '.join(words)}", numbers, severity)

    # One large element is proof; that there is none takes evidence.
    return Verdict(sure | over, over | counted | bounded, describe)


def _tell_end(form: Format, top: float, scaled: bool, numbers: dict[str, float]) -> str:
    numbers["abs_max"] = top
    text = f"up to {top:.4g} where {form.name} ends at {form.largest:.5g}"
    return f"{text} without a scale" if scaled else text


def _tell_beyond(beyond: Counted, where: Mask, numbers: dict[str, float]) -> str:
    numbers["beyond"] = share = float(beyond.share[where].max())
    whose, most = ("a channel's", "up to ") if beyond.of_channels else ("the layer's", "")
    return f", {most}{_percent(share)} of {whose} elements at it or beyond"


def _bound_beyond(form: Format, rms: Array, numbers: dict[str, float]) -> str:
    share = float(np.minimum(np.square(rms / form.largest), 1).max())
    numbers["beyond_at_most"] = share
    return f", beyond it at most {_percent(share)} of a channel's elements"


def _tell_below(
    how: str, below: Counted, where: Mask, smallest: float, numbers: dict[str, float]
) -> str:
    numbers["below"] = share = float(below.share[where].min())
    each = "or more of the nonzero elements of each"
    whose = each if below.of_channels else "of the layer's nonzero elements"
    return f"{_percent(share)} {whose} are below {smallest:.4g}, where {how} loses digits"


def _bound_below(how: str, scale: Array, smallest: float, numbers: dict[str, float]) -> str:
    numbers["rms_of_nonzero"] = float(scale.min())
    share = float(1 - np.square(scale / smallest).max())
    numbers["below_at_least"] = share
    return (
        f"rms {scale.min():.4g} where {how} loses digits below {smallest:.4g}, "
        f"as at least {_percent(share)} of the nonzero elements of each do"
    )


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


RANGE_RULES: dict[str, Callable[[Observed, RuleThresholds], Verdict]] = {
    f"range-{form.name}": partial(_at_risk, form=form) for form in FORMATS
}
