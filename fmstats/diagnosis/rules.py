"""Register the rules: what each looks for, what it means, and what to do about it.

A rule is a pure function of layers and thresholds; docs/diagnose.md is made from this registry.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fmstats.diagnosis import alike, bounds, depth, nonfinite, outliers, silent
from fmstats.diagnosis.formats import FORMATS, RANGE_RULES
from fmstats.diagnosis.observed import Observed, Verdict
from fmstats.diagnosis.thresholds import RuleThresholds

SEVERITIES = ("error", "warning", "info")  # gravest first

Judge = Callable[[Sequence[Observed], RuleThresholds], list[Verdict | None]]


@dataclass(frozen=True)
class Rule:
    """Describes one rule.

    Attributes:
        severities: what its findings can be, the usual one first.
        condition: when it holds, in words, with the names of thresholds.
        thresholds: what it compares with, by name in
            `fmstats.diagnosis.thresholds.RULE_THRESHOLDS`.
        advice: what to do.
        judge: a verdict on each layer, in the order of execution; None where it does not apply.
        unit: what it judges, "channels" or whole "layers".
        source: where the rule or its threshold comes from.
        family: findings of one family on the same channels, layer after layer, form one group.
        yields_to: rules that say more of a channel; this rule does not repeat their hits.
    """

    severities: tuple[str, ...]
    condition: str
    thresholds: tuple[str, ...]
    meaning: str
    advice: str
    judge: Judge
    unit: str = "channels"
    source: str = "own choice"
    family: str | None = None
    yields_to: tuple[str, ...] = ()


def each_layer(judge: Callable[[Observed, RuleThresholds], Verdict | None]) -> Judge:
    """Make a rule for all layers from a rule for one layer."""
    return lambda layers, thresholds: [judge(layer, thresholds) for layer in layers]


_SEEN = ("elements", "samples")
_DEPTH = (
    "Glorot and Bengio 2010, He et al. 2015; units: Iglewicz and Hoaglin 1993; thresholds: own "
    "choice"
)
_THREE = "rule of three for `elements` (Hanley and Lippman-Hand 1983)"

RULES: dict[str, Rule] = {
    "non-finite": Rule(
        ("error", "warning", "info"),
        "any NaN or infinity; `error` where it is new, `warning` where it was received, or may be, "
        "`info` for a mask: -inf alone, far from overflow, and finite behind it",
        (),
        "Numbers are lost: NaN spreads to all that depends on it.",
        "look at the producer: overflow in a small format, a division by 0, a log or root of a "
        "negative number; for the first layer, look at the data",
        nonfinite.non_finite,
        source="definition",
    ),
    "never-active": Rule(
        ("warning",),
        "min = max = 0 over all finite elements",
        _SEEN,
        "The channel adds nothing but cost, and behind a ReLU it has no gradient to come back.",
        "prune it; in training use a lower learning rate, a leaky activation, or another "
        "initialisation",
        each_layer(silent.never_active),
        source=f"Lu et al. 2019 (dying ReLU); {_THREE}",
        family="silent",
    ),
    "dead": Rule(
        ("warning",),
        "zeros / count > `dead`, blank positions left out",
        ("dead", *_SEEN),
        "The channel is 0 nearly always; it may be a detector of something rare, or useless.",
        "look at the images that excite it (`fmstats.top_images`); prune it if there is nothing",
        each_layer(silent.dead),
        source=_THREE,
        family="silent",
        yields_to=("never-active",),
    ),
    "constant": Rule(
        ("warning", "info"),
        "max - min <= `constant` * abs_max, other than 0; `info` where an embedding was asked for "
        "one row alone",
        ("constant", *_SEEN),
        "The channel says the same of every input: it is a bias.",
        "fold it into the next layer's bias; look for a weight of 0, or a dead channel before it",
        silent.constant,
        source=_THREE,
        family="silent",
    ),
    "sparse": Rule(
        ("warning", "error"),
        "zeros / count > `sparse` over all channels, blank positions left out; `error` where "
        "every element is 0",
        ("sparse", *_SEEN),
        "The layer passes next to nothing on.",
        "check the bias and the normalisation before it; of a layer of zeros, whether it is "
        "masked, zero-initialised or cut off",
        each_layer(silent.sparse),
        unit="layers",
        family="sparse",
    ),
    "saturated-low": Rule(
        ("warning", "info"),
        "elements at or below the lower bound / count > `saturated`; `info` in fewer than a tenth "
        "of the channels, in fewer than nine tenths where the bounds are within 0 and 1",
        ("saturated", *_SEEN),
        "The activation is flat there: differences are lost, gradients are small or 0.",
        "shrink what goes in: normalise before it, lower the weights or the learning rate",
        each_layer(bounds.saturated_low),
        source="bounds of `fmstats.models.saturation`; Glorot and Bengio 2010",
    ),
    "saturated-high": Rule(
        ("warning", "info"),
        "elements at or above the upper bound / count > `saturated`; `info` as saturated-low",
        ("saturated", *_SEEN),
        "As saturated-low, at the other end.",
        "shrink what goes in, as for saturated-low; for a ReLU6, raise the bound",
        each_layer(bounds.saturated_high),
        source="bounds of `fmstats.models.saturation`; Glorot and Bengio 2010",
    ),
    "saturated-both": Rule(
        ("warning", "info"),
        "elements at either bound / count > `saturated`, at neither alone; `info` in fewer than a "
        "tenth of the channels, and where the bounds are within 0 and 1",
        ("saturated", *_SEEN),
        "The channel works as a switch: it is at one bound or at the other.",
        "nothing, if it is a gate; else shrink what goes in, as for saturated-low",
        each_layer(bounds.saturated_both),
        source="bounds of `fmstats.models.saturation`",
    ),
    "exploding": Rule(
        ("warning",),
        "the rms of a layer is above that of all layers it is compared with, at least `depth` of "
        "them, up to n steps before it, by a factor of `growth` and by `unusual` robust standard "
        "deviations of n steps",
        ("growth", "unusual", "depth", *_SEEN),
        "Scale grows: what comes later is drowned, activations saturate, small formats overflow.",
        "look at the weights, the gain and the running variance of the layer, and at how its input "
        "was normalised; scale residual branches, or use an initialisation that keeps the variance",
        depth.exploding,
        unit="layers",
        source=_DEPTH,
    ),
    "vanishing": Rule(
        ("warning",),
        "as exploding, of the std within channels, below those of the layers before it; a weighted "
        "sum that no other layer is like: below the layer run before it and below 1",
        ("growth", "unusual", "depth", *_SEEN),
        "What differs between inputs shrinks: what is left at the end is rounding and bias.",
        "look at the weights of the layer and for a scale that is applied twice; normalise, or use "
        "an initialisation that keeps the variance",
        depth.vanishing,
        unit="layers",
        source=_DEPTH,
    ),
    "collapsed": Rule(
        ("warning",),
        "std / rms < `collapsed` in the median of the channels that vary",
        ("collapsed", *_SEEN),
        "Nearly the same comes out whatever goes in: the representation has collapsed.",
        "look for a bias or a mean that drowns the rest, for weights that have decayed, and in "
        "self-supervised training at the loss",
        alike.collapsed,
        unit="layers",
    ),
    "identical": Rule(
        ("warning",),
        "more than `identical` of the channels have the same mean, std, min and max, in a layer of "
        "at least `channels` channels",
        ("identical", "channels", *_SEEN),
        "Neurons that start alike get the same gradients and stay alike: they count as one.",
        "initialise the weights at random; look for a weight that was filled, tied or broadcast",
        each_layer(alike.identical),
        family="identical",
    ),
    "one-sided": Rule(
        ("info",),
        "min >= 0 or max <= 0, in a layer whose type gives both signs",
        _SEEN,
        "Behind a ReLU, a channel that is never above 0 is dead, one never below 0 is linear.",
        "nothing by itself; a convolution of positive weights over a ReLU is one-sided by rights",
        each_layer(silent.one_sided),
        source=_THREE,
        family="one-sided",
        yields_to=("never-active", "constant"),
    ),
    "outlier": Rule(
        ("info",),
        "|log(rms / median rms)| above `outlier` robust standard deviations and above "
        "log(`outlier-ratio`), in a layer of at least `channels` channels",
        ("outlier", "outlier-ratio", "channels", *_SEEN),
        "One scale for the whole layer, as quantisation has it, does not fit these channels.",
        "quantise by channel, or move the scale into the weights before; look at what they detect",
        each_layer(outliers.outlier),
        source="units: Iglewicz and Hoaglin 1993; outlier channels: Dettmers et al. 2022; "
        "thresholds: own choice",
        family="outlier",
    ),
} | {
    f"range-{form.name}": Rule(
        ("info", "warning"),
        (
            f"rms of the nonzero elements < {form.smallest_normal / form.largest:.3g} * `headroom` "
            "times the largest abs_max of the layer"
            if form.scaled
            else f"abs_max * `headroom` > {form.largest:.5g}, or rms of the nonzero elements < "
            f"{form.smallest_normal:.4g}"
        )
        + f"; `warning` where the layer runs in {form.name}"
        + (f", then of {form.largest:.5g} and {form.smallest_normal:.4g}" if form.scaled else ""),
        ("headroom", *_SEEN),
        f"Cast to {form.name} with one scale for the layer, these channels lose digits."
        if form.scaled
        else f"Cast to {form.name} without a scale, numbers of these channels overflow or lose "
        "digits.",
        "scale by channel, or keep the layer in a larger format"
        if form.scaled
        else "keep the layer in a larger format, or scale it before the cast",
        each_layer(RANGE_RULES[f"range-{form.name}"]),
        source=source,
        family=f"range-{form.name}",
    )
    for form, source in zip(
        FORMATS,
        (
            "limits: IEEE 754",
            "limits: `torch.finfo`",
            "limits: Micikevicius et al. 2022",
            "limits: Micikevicius et al. 2022",
        ),
        strict=True,
    )
}
