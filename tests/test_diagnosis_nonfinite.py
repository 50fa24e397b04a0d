"""NaN and infinities: who made them, who received them, and how sure that is."""

from __future__ import annotations

import math

import torch
from diagnosis_profiles import healthy, layer_of, profile_of
from torch import Tensor, nn

import fmstats
from fmstats import Diagnosis, Profile
from fmstats.profiles.profile import LayerProfile

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


def test_infinities_may_come_back_behind_nan() -> None:
    """Some channels hold NaN and others infinities; a layer may show the ones or the others."""
    seen = roles_of(clean(), bad(INF), bad(NAN), bad(INF))
    assert seen["d"] == ("received", "likely", "b", "warning", "b")


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


def run(model: nn.Module, x: Tensor, functional: str | bool = "auto") -> Profile:
    with fmstats.track(model, functional=functional) as tracker, torch.no_grad():
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

    torch.manual_seed(0)
    model, x = Branch(), torch.randn(64, 8)
    seen = roles(run(model, x, functional=False).diagnose(["non-finite"]))
    assert seen["log"][:2] == ("producer", "likely")
    assert seen["last"][:2] == ("producer", "unsure")
    seen = roles(run(model, x).diagnose(["non-finite"]))
    assert seen["(model)/add"][:2] == ("producer", "unsure")
    assert seen["last"][:2] == ("received", "likely")


def masked(dtype: str = "float32", top: float = 1.0) -> LayerProfile:
    x = healthy(20)
    x[0] = top
    x[1:7, :3] = -INF
    return layer_of(x, "Mask", dtype=dtype)


def test_a_mask_is_no_fault() -> None:
    """-inf in front of a softmax: what runs next is finite, or masked as well."""
    for after in ([clean()], [], [masked(), clean()]):
        diagnosis = profile_of(clean(), masked(), *after).diagnose(["non-finite"])
        assert roles(diagnosis)["b"] == ("producer", "likely", "b", "info", None)
        assert diagnosis.measures["errors"].value == 0
        assert diagnosis.measures["inf"].value > 0
        if len(after) == 2:
            assert roles(diagnosis)["c"] == ("received", "likely", "b", "info", "b")
    assert "made here (-inf alone and finite behind it: masked, or the logarithm of 0)" in (
        profile_of(clean(), masked()).diagnose(["non-finite"]).findings[0].message
    )


def test_a_mask_that_spreads_is_a_fault() -> None:
    """Of a row that is all masked a softmax makes NaN."""
    seen = roles_of(clean(), masked(), masked(), bad(NAN), clean())
    assert seen["b"] == ("producer", "likely", "b", "error", None)
    assert seen["c"] == ("received", "likely", "b", "warning", "b")
    assert seen["d"] == ("received", "likely", "b", "warning", "b")


def test_what_is_no_mask() -> None:
    for layer in (bad(INF), bad(-INF, INF), bad(-INF, NAN)):
        assert roles_of(clean(), layer, clean())["b"][3] == "error"


def test_an_overflow_is_no_mask() -> None:
    """It leaves numbers near the end of the format behind."""
    for dtype in ("float16", "bfloat16", "float32"):
        end = torch.finfo(getattr(torch, dtype)).max / 16
        assert roles_of(clean(), masked(dtype, 0.99 * end))["b"][3] == "info"
        assert roles_of(clean(), masked(dtype, 1.01 * end))["b"][3] == "error"
    assert roles_of(clean(), masked("another", 1e30))["b"][3] == "info"


def test_a_layer_of_weights_makes_no_mask() -> None:
    """An infinite weight, or an overflow: linear layers give -inf for no other reason."""
    x = healthy(20)
    x[:, 0] = -INF
    for of, severity in (("output", "error"), ("input", "info")):
        seen = roles_of(clean(), layer_of(x, "Linear"), clean(), of=of)
        assert seen["b"][3] == severity


def test_faults_behind_a_mask_are_told_as_ever() -> None:
    seen = roles_of(clean(), masked(), clean(), bad(NAN), bad(INF), masked(), clean())
    assert seen["d"] == ("producer", "likely", "d", "error", None)
    assert seen["e"] == ("producer", "likely", "e", "error", None)  # no infinity but a mask's
    assert seen["f"] == ("producer", "likely", "f", "info", None)
    message = profile_of(masked(), clean(), bad(NAN)).diagnose(["non-finite"]).findings[0].message
    assert message.endswith("made here (no layer before it had any but -inf)")


def test_masks_among_inputs() -> None:
    assert roles_of(masked(), clean(), of="input")["a"] == (
        *("received", "likely", None, "info", None),
    )


def test_masked_attention() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.query, self.key, self.mask = nn.Linear(8, 8), nn.Linear(8, 8), Hide()
            self.softmax = nn.Softmax(-1)

        def forward(self, x: Tensor) -> Tensor:
            return self.softmax(self.mask(self.query(x) @ self.key(x).mT))

    class Hide(nn.Module):
        def forward(self, scores: Tensor) -> Tensor:
            return scores.masked_fill(torch.ones_like(scores).triu(1).bool(), -INF)

    diagnosis = run(Attention(), torch.randn(64, 6, 8)).diagnose()
    assert [(f.layer, f.severity) for f in diagnosis if f.rule == "non-finite"] == [
        ("mask", "info")
    ]
