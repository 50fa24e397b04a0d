"""Register the rules: what each looks for, what it means, and what to do about it.

docs/diagnose.md is made from this registry.
"""

from __future__ import annotations

from fmstats.diagnosis import alike, bounds, depth, nonfinite, outliers, shapes, silent
from fmstats.diagnosis.formats import FORMATS, RANGE_RULES, Format
from fmstats.diagnosis.kinds import gives_zeros
from fmstats.diagnosis.rule import Rule, each_layer
from fmstats.diagnosis.training_rules import TRAINING_RULES
from fmstats.statistic.bins import Bins

_SEEN = ("elements", "samples")
_DEPTH = (
    "Glorot and Bengio 2010, He et al. 2015; units: Iglewicz and Hoaglin 1993; thresholds: own "
    "choice"
)
_THREE = "rule of three for `elements` (Hanley and Lippman-Hand 1983)"


def _is_counted(form: Format) -> bool:
    """Return whether histograms tell of numbers that are small in a format."""
    return form.scaled or form.smallest_normal >= Bins.SMALLEST


def _range_condition(form: Format) -> str:
    limit = f"{form.smallest_normal:.4g}"
    if form.scaled:
        ratio = form.smallest_normal / form.largest
        words = [
            f"rms of the nonzero elements < {ratio:.3g} * `headroom` times the largest abs_max of "
            "the layer",
            "in a histogram, more than `underflow` of them below that, or any element beyond "
            f"{form.largest:.5g}",
        ]
        stored = f", whose limits are then {form.largest:.5g} and {limit}"
    else:
        words = [
            f"abs_max * `headroom` > {form.largest:.5g}, or rms of the nonzero elements < {limit}"
        ]
        if _is_counted(form):
            words.append(f"in a histogram, more than `underflow` of them below {limit}")
        stored = ""
    if form.scaled:
        words.append("of layers in other dtypes only if it is asked for")
    return "; ".join([*words, f"`warning` if the layer runs in {form.name}{stored}"])


RULES: dict[str, Rule] = {
    "non-finite": Rule(
        ("error", "warning", "info"),
        "any NaN or infinity; `error` if it is new in this layer, `warning` if the layer received "
        "it, or may have, `info` for a mask: -inf alone, other numbers far from overflow, and a "
        "finite layer after it",
        (),
        "Numbers are lost: a NaN makes everything NaN that is computed from it.",
        "in the layer that made it, look for overflow in a small format, a division by 0, a log or "
        "root of a negative number; if that is the first layer, look at the data",
        nonfinite.non_finite,
        source="definition",
    ),
    "never-active": Rule(
        ("warning",),
        "min = max = 0 over all finite elements",
        _SEEN,
        "The channel costs time and contributes nothing. After a ReLU its gradient is 0, so that "
        "training cannot revive it.",
        "prune it; where it is constant, but not 0, in a layer after it, add that constant to the "
        "bias of the next layer. In training, use a lower learning rate, a leaky activation, or "
        "another initialisation",
        each_layer(silent.never_active),
        source=f"Lu et al. 2019 (dying ReLU); {_THREE}",
        family="silent",
        among=gives_zeros,
    ),
    "dead": Rule(
        ("warning",),
        "zeros / count > `dead`, blank positions left out",
        ("dead", *_SEEN),
        "The channel is 0 nearly always: it detects something rare, or it is useless.",
        "look at the images that excite it (fmstats.top_images); prune it if they show nothing",
        each_layer(silent.dead),
        source=_THREE,
        family="silent",
        among=gives_zeros,
        yields_to=("never-active",),
    ),
    "constant": Rule(
        ("warning", "info"),
        "max - min <= `constant` * abs_max, and not all 0; `info` if an embedding looked up one "
        "entry of its table alone",
        ("constant", *_SEEN),
        "The channel has one value for all inputs: it acts as a bias.",
        "add it to the next layer's bias; look for a weight of 0, or for a dead channel before it",
        silent.constant,
        source=_THREE,
        family="silent",
    ),
    "sparse": Rule(
        ("warning", "error"),
        "zeros / count > `sparse` over all channels, blank positions left out; `error` if "
        "every element is 0",
        ("sparse", *_SEEN),
        "The layer passes almost no information to the next one.",
        "check the bias and the normalisation before it; if all elements are 0, check whether "
        "the layer is masked, zero-initialised or cut off",
        each_layer(silent.sparse),
        unit="layers",
        family="sparse",
        among=gives_zeros,
    ),
    "saturated-low": Rule(
        ("warning", "info"),
        "the share of elements at or below the lower bound > `saturated`; `info` if this holds for "
        "fewer than a tenth of the channels, or nine tenths if both bounds are within 0 and 1",
        ("saturated", *_SEEN),
        "The activation is flat at that bound: differences are lost, gradients are small or 0.",
        "make its inputs smaller: normalise before it, lower the weights or the learning rate",
        each_layer(bounds.saturated_low),
        source="bounds of `fmstats.models.saturation`; Glorot and Bengio 2010",
        yields_to=("switch",),
    ),
    "saturated-high": Rule(
        ("warning", "info"),
        "the share of elements at or above the upper bound > `saturated`; `info` as for "
        "saturated-low",
        ("saturated", *_SEEN),
        "The activation is flat at that bound: differences are lost, gradients are small or 0.",
        "make its inputs smaller, as for saturated-low; for a ReLU6, raise the bound",
        each_layer(bounds.saturated_high),
        source="bounds of `fmstats.models.saturation`; Glorot and Bengio 2010",
        yields_to=("switch",),
    ),
    "saturated-both": Rule(
        ("warning", "info"),
        "the share of elements at the two bounds together > `saturated`, but not at one of them; "
        "`info` if this holds for fewer than a tenth of the channels, or if both bounds are within "
        "0 and 1",
        ("saturated", *_SEEN),
        "The channel works as a switch: nearly all elements are at one bound or the other.",
        "nothing if it is a gate; otherwise make its inputs smaller, as for saturated-low",
        each_layer(bounds.saturated_both),
        source="bounds of `fmstats.models.saturation`",
        yields_to=("switch",),
    ),
    "switch": Rule(
        ("info",),
        '`measure="kurtosis"`: (1 + skewness²) / kurtosis > `switch`, and each of the two values '
        "that these moments belong to has a tenth of the elements or more, in a layer whose bounds "
        "are within 0 and 1",
        ("switch", *_SEEN),
        "The gate opens or closes, and is hardly ever in between: this is what gates are for, and "
        "no saturation. Its gradient is small all the same.",
        "nothing, if it is to decide; if it is to weigh, make its inputs smaller",
        each_layer(shapes.switch),
        source="Pearson 1916 (kurtosis >= 1 + skewness²); threshold: own choice",
        needs="kurtosis",
    ),
    "exploding": Rule(
        ("warning",),
        "for some n, the rms exceeds that of all layers n or more steps before it in its group of "
        "at least `depth` layers, by a factor of `growth` and by `unusual` robust standard "
        "deviations of n steps",
        ("growth", "unusual", "depth", *_SEEN),
        "The scale grows along the depth: activations saturate, and small formats overflow.",
        "look at the weights, the gain and the running variance of the layer, and at how its input "
        "was normalised; scale residual branches, or use an initialisation that keeps the variance",
        depth.exploding,
        unit="layers",
        source=_DEPTH,
    ),
    "vanishing": Rule(
        ("warning",),
        "as exploding, but the std within channels is below that of the earlier layers; a "
        "weighted sum that resembles no other layer is compared with the layer run before it and "
        "with 1",
        ("growth", "unusual", "depth", *_SEEN),
        "The differences between inputs shrink along the depth until rounding and bias remain.",
        "look at the weights of the layer and for a scale that is applied twice; normalise, or use "
        "an initialisation that keeps the variance",
        depth.vanishing,
        unit="layers",
        source=_DEPTH,
    ),
    "collapsed": Rule(
        ("warning",),
        "the median of std / rms over the channels that vary < `collapsed`",
        ("collapsed", *_SEEN),
        "The output is nearly the same for all inputs: the representation has collapsed.",
        "look for a bias or a mean that is much larger than the rest, and for weights that have "
        "decayed; in self-supervised training, look at the loss",
        alike.collapsed,
        unit="layers",
    ),
    "concentrated": Rule(
        ("warning",),
        '`measure="histogram"`: more than `concentrated` of the elements are of one sign and '
        "within an eighth of each other, though some channels vary; with histograms of channels, "
        "in the channel in the middle of those that vary",
        ("concentrated", *_SEEN),
        "The layer gives one number nearly always, whatever goes in. The few exceptions hide this "
        "from the std.",
        "look for an activation that is stuck at one end, or for a bias that outweighs the rest; "
        "look at the inputs that make the exceptions",
        each_layer(shapes.concentrated),
        unit="layers",
        yields_to=("collapsed",),
        needs="histogram",
    ),
    "identical": Rule(
        ("warning",),
        "more than `identical` of the channels have the same mean, std, min and max, in a layer of "
        "at least `channels` channels",
        ("identical", "channels", *_SEEN),
        "Channels that start alike get the same gradients and stay alike: together they do the "
        "work of one.",
        "initialise the weights at random; look for a weight that was filled, tied or broadcast",
        each_layer(alike.identical),
        family="identical",
    ),
    "one-sided": Rule(
        ("info",),
        "min >= 0 or max <= 0, in a layer whose type gives both signs",
        _SEEN,
        "The layer can give both signs, but this channel gives one. A ReLU after it passes nothing "
        "of a channel that is never above 0, and all of one that is never below 0.",
        "look at channels that are never above 0: behind a ReLU they are dead. Otherwise do "
        "nothing: a convolution with positive weights behind a ReLU always gives one sign",
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
        "One quantisation scale for the whole layer does not fit these channels.",
        "quantise per channel, or move the scale into the weights before; look at what they detect",
        each_layer(outliers.outlier),
        source="units: Iglewicz and Hoaglin 1993; outlier channels: Dettmers et al. 2022; "
        "thresholds: own choice",
        family="outlier",
    ),
    "heavy-tails": Rule(
        ("info",),
        '`measure="kurtosis"`: the kurtosis of at least `elements` elements that are not 0 > '
        "`tails`",
        ("tails", *_SEEN),
        "A few elements are far from all others, by the root of the kurtosis in standard "
        "deviations or more. A scale that holds them leaves few steps of a small format to the "
        "rest.",
        "clip before quantising, by a percentile or the mean square error; look at which inputs "
        "make these elements",
        each_layer(shapes.heavy_tails),
        source="kurtosis as a sign of quantisation trouble: Bondarenko et al. 2023; threshold: "
        "own choice",
        family="heavy-tails",
        needs="kurtosis",
    ),
} | {
    f"range-{form.name}": Rule(
        ("info", "warning"),
        _range_condition(form),
        ("headroom", *(["underflow"] if _is_counted(form) else []), *_SEEN),
        f"If the layer is cast to {form.name} with one scale, these channels lose digits."
        if form.scaled
        else f"If the layer is cast to {form.name} without a scale, numbers of these channels "
        "overflow or lose digits.",
        "use a scale per channel, or keep the layer in a larger format"
        if form.scaled
        else "keep the layer in a larger format, or scale it before the cast",
        each_layer(RANGE_RULES[f"range-{form.name}"]),
        source=source,
        family=f"range-{form.name}",
        dtype=form.dtype if form.scaled else None,
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
RULES |= TRAINING_RULES


def list_rules(of: str) -> tuple[str, ...]:
    """Return the rules for profiles of this, such as "output" or "parameters", by name."""
    return tuple(name for name, rule in RULES.items() if of in rule.of)
