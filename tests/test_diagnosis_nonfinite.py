"""NaN and infinities: who made them, who received them, and how sure that is."""

from __future__ import annotations

import math

import torch
from diagnosis_profiles import healthy, layer_of, profile_of
from torch import Tensor, nn

import fmstats
from fmstats import Diagnosis, Profile
from fmstats.profiles import LayerProfile

NAN, INF = math.nan, math.inf


def clean() -> LayerProfile:
    return layer_of(healthy(20))


def bad(*values: float) -> LayerProfile:
    x = healthy(20)
    for i, value in enumerate(values):
        x[i, i % 2] = value
    return layer_of(x)


def roles(diagnosis: Diagnosis) -> dict[str, tuple[object, ...]]:
    keys = ("role", "certainty", "producer")
    return {f.layer: (*(f.evidence[k] for k in keys), f.severity, f.follows) for f in diagnosis}


def roles_of(*layers: LayerProfile, **metadata: object) -> dict[str, tuple[object, ...]]:
    return roles(profile_of(*layers, **metadata).diagnose(["non-finite"]))


def test_finite() -> None:
    assert roles_of(clean(), clean()) == {}


def test_what_is_said() -> None:
    diagnosis = profile_of(clean(), bad(NAN, INF, -INF)).diagnose(["non-finite"])
    (finding,) = diagnosis.findings
    assert finding.message == (
        "2 of 4 channels (0, 1): 1 NaN and 2 infinite of 80 elements, made here (no layer before "
        "it had any)"
    )
    assert finding.evidence["elements"] == 20
    assert [finding.evidence[k] for k in ("nan", "pos_inf", "neg_inf")] == [1, 1, 1]
    assert diagnosis.measures["nan"].value == 1
    assert diagnosis.measures["inf"].value == 2
    assert diagnosis.measures["errors"].value == 1


def test_producer_and_propagators() -> None:
    assert roles_of(clean(), bad(NAN), bad(NAN, NAN), bad(NAN)) == {
        "b": ("producer", "likely", "b", "error", None),
        "c": ("received", "likely", "b", "warning", "b"),
        "d": ("received", "likely", "b", "warning", "b"),
    }


def test_the_first_layer_may_have_had_bad_data() -> None:
    assert roles_of(bad(NAN), clean())["a"] == ("producer", "unsure", "a", "error", None)


def test_after_finite_layers_there_may_be_a_second_producer() -> None:
    seen = roles_of(clean(), bad(NAN), clean(), bad(NAN), bad(NAN))
    assert seen["d"] == ("producer", "unsure", "d", "warning", None)
    assert seen["e"] == ("received", "likely", "d", "warning", "d")


def test_infinities_do_not_come_from_nan() -> None:
    seen = roles_of(clean(), bad(NAN), bad(INF), bad(INF, NAN))
    assert seen["c"] == ("producer", "likely", "c", "error", None)
    assert seen["d"] == ("received", "likely", "c", "warning", "c")


def test_nan_may_come_from_infinities() -> None:
    assert roles_of(clean(), bad(INF), bad(NAN))["c"][0] == "received"


def test_inputs_and_gradients_come_from_the_layer_before() -> None:
    for of in ("input", "grad_output"):
        seen = roles_of(clean(), bad(NAN), bad(NAN), of=of)
        assert seen["b"] == ("received", "likely", "a", "error", None)
        assert seen["c"] == ("received", "likely", "a", "warning", "b")
        assert roles_of(bad(NAN), of=of)["a"] == ("received", "unsure", None, "error", None)


class Log(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.log()


def run(model: nn.Module, x: Tensor) -> Profile:
    with fmstats.track(model) as tracker, torch.no_grad():
        model(x)
    return tracker.stats()


def test_a_real_model() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), Log(), nn.Linear(8, 8), nn.ReLU())
    seen = roles(run(model, torch.randn(64, 8)).diagnose(["non-finite"]))
    assert {layer: role[0] for layer, role in seen.items()} == {
        "2": "producer",  # log(0) is -inf
        "3": "received",
        "4": "received",
    }


def test_a_branch_around_a_finite_layer_is_unsure() -> None:
    """The skip connection carries NaN past a layer that sees none of it."""

    class Branch(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.log, self.side = nn.Linear(8, 8), Log(), nn.Linear(8, 8)
            self.last = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return self.last(self.log(self.first(x)) + self.side(x))

    seen = roles(run(Branch(), torch.randn(64, 8)).diagnose(["non-finite"]))
    assert seen["log"][:2] == ("producer", "likely")
    assert seen["last"][:2] == ("producer", "unsure")
