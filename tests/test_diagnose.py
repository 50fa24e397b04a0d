"""The rules of a diagnosis, each at its boundary."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import fmstats
from fmstats.diagnose import RULES, SHOWN, Diagnosis, Finding


def diagnosis_of(x: Tensor, layer: nn.Module | None = None, **options: object) -> Diagnosis:
    layer = layer or nn.Identity()
    with fmstats.track(layer, **options) as tracker:  # type: ignore[arg-type]
        layer(x)
    return tracker.stats().diagnose()


def healthy(n: int = 100, channels: int = 3) -> Tensor:
    return torch.rand(n, channels) + 0.5


def test_nothing_found() -> None:
    found = diagnosis_of(healthy())
    assert found.findings == []
    assert str(found) == "nothing found"


def test_dead() -> None:
    x = healthy(1000)
    x[10:, 1] = 0  # 99 % zeros
    assert diagnosis_of(x).findings == []
    x[9, 1] = 0
    assert diagnosis_of(x).findings == [
        Finding(
            "(model)",
            "dead",
            "warning",
            "1 of 3 channels (number 1): 0 in more than 99% of the elements",
        )
    ]


def test_never_active_is_not_said_twice() -> None:
    x = healthy(2000, 4)
    x[:, 0] = 0
    x[:, 3] = -0.0
    (finding,) = diagnosis_of(x).findings
    assert (finding.rule, finding.severity) == ("never active", "warning")
    assert finding.message.startswith("2 of 4 channels (numbers 0, 3): exactly 0 in each of 2,000 ")


def test_never_active_beside_dead() -> None:
    x = healthy(1000)
    x[:, 0] = 0
    x[1:, 2] = 0
    assert [(f.rule, f.message[:30]) for f in diagnosis_of(x).findings] == [
        ("never active", "1 of 3 channels (number 0): ex"),
        ("dead", "1 of 3 channels (number 2): 0 "),
    ]


def test_non_finite() -> None:
    x = healthy()
    x[3, 1], x[4, 1], x[5, 2] = float("nan"), float("inf"), float("-inf")
    (finding,) = diagnosis_of(x).findings
    assert (finding.rule, finding.severity) == ("non-finite", "error")
    assert finding.message == (
        "1 NaN and 2 infinite of 300 elements, 2 of 3 channels (numbers 1, 2)"
    )


def test_nan_is_not_called_exactly_zero() -> None:
    """A channel of zeros and NaN: the message must not claim a zero in each element."""
    x = healthy(10)
    x[:, 0] = 0
    x[:4, 0] = float("nan")
    messages = {f.rule: f.message for f in diagnosis_of(x).findings}
    assert "4 NaN" in messages["non-finite"]
    assert "in each of 10 elements" not in messages.get("never active", "")


def test_saturated() -> None:
    x = healthy(100)
    x[:50, 1] = 6
    assert diagnosis_of(x, nn.ReLU6()).findings == []
    x[50, 1] = 7
    (finding,) = diagnosis_of(x, nn.ReLU6()).findings
    assert str(finding) == (
        "warning  (model)  saturated: 1 of 3 channels (number 1): "
        "at 6 in more than 50% of the elements"
    )
    assert diagnosis_of(x).findings == []  # no bounds, no verdict


def test_saturated_at_either_end() -> None:
    x = torch.tensor([[-9.0], [9.0], [0.0]])
    (finding,) = diagnosis_of(x, nn.Tanh()).findings
    assert finding.message.endswith(": at -0.99 or 0.99 in more than 50% of the elements")


def test_gravest_first() -> None:
    model = nn.Sequential(nn.ReLU(), nn.Identity())
    model.forward = lambda x, y: (model[0](x), model[1](y))  # type: ignore[method-assign]
    bad = healthy()
    bad[0, 0] = float("nan")
    with fmstats.track(model) as tracker:
        model(-healthy(), bad)
    found = tracker.stats().diagnose()
    assert [(f.layer, f.severity) for f in found.findings] == [("1", "error"), ("0", "warning")]
    assert [line.split()[:2] for line in str(found).splitlines()] == [
        ["error", "1"],
        ["warning", "0"],
    ]


@pytest.mark.parametrize("dead", [SHOWN, SHOWN + 1])
def test_long_lists_are_cut(dead: int) -> None:
    x = healthy(10, 20)
    x[:, :dead] = 0
    (finding,) = diagnosis_of(x).findings
    named = ", ".join(map(str, range(SHOWN))) + (", ..." if dead > SHOWN else "")
    assert finding.message.startswith(f"{dead} of 20 channels (numbers {named}): ")


def test_severities_are_known() -> None:
    assert {severity for severity, _ in RULES.values()} <= {"info", "warning", "error"}


def test_an_empty_profile() -> None:
    assert fmstats.Profile({}, {}).diagnose().findings == []
