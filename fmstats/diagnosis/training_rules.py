"""Register the rules for parameters: see `fmstats.diagnosis.rules`."""

from __future__ import annotations

from fmstats.diagnosis import training
from fmstats.diagnosis.rule import PARAMETERS, Rule, each_layer

TRAINING_RULES: dict[str, Rule] = {
    "non-finite-parameter": Rule(
        ("error",),
        "any NaN or infinity in a weight, a gradient or an update",
        (),
        "A weight that is NaN stays NaN, and so does all that is computed from it.",
        "look at the gradient of the first one: it overflowed, or the loss did; clip gradients, "
        "lower the learning rate, or scale the loss",
        each_layer(training.bad_parameter),
        source="definition",
        of=PARAMETERS,
    ),
    "no-gradient": Rule(
        ("warning",),
        "the gradient is exactly 0 in each of at least `steps` steps",
        ("steps",),
        "The channel does not learn: its activation is dead, or nothing after it uses it.",
        "look at the activations of the layer (fmstats.track); check whether its output reaches "
        "the loss, and whether something detaches it",
        each_layer(training.no_gradient),
        of=PARAMETERS,
    ),
    "large-update": Rule(
        ("warning",),
        "rms of updates > `update` * rms of weights in at least `steps` steps, of a parameter of "
        "two dims or more",
        ("update", "steps"),
        "A step changes a large part of the weight: training may blow up. 0.001 is usual.",
        "lower the learning rate, warm it up, or clip gradients; look at the layers before it",
        training.large_update,
        unit="layers",
        source="0.001 as usual: Karpathy 2022; threshold: own choice",
        of=PARAMETERS,
    ),
    "frozen-moves": Rule(
        ("error",),
        "a step changes a parameter that needs no gradient, or that the optimizer does not have",
        (),
        "What was to stay is changed by the step, or by a hook of it. Changes between steps are "
        "not seen.",
        "look for what writes to it; if it is to be trained, give it to the optimizer",
        each_layer(training.frozen_moves),
        source="definition",
        of=PARAMETERS,
    ),
}
