"""Rules for parameters: what training does to weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import fmstats
from fmstats import Diagnosis, Profile

RULES = ("non-finite-parameter", "no-gradient", "large-update", "frozen-moves")


def train(
    model: nn.Module, steps: int = 12, lr: float = 0.01, frozen_by: float = 0.0, bad: bool = False
) -> Profile:
    torch.manual_seed(0)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=lr)
    if frozen_by:
        optimizer.register_step_post_hook(lambda *_: model[0].weight.data.add_(frozen_by))
    with fmstats.track_parameters(model, optimizer) as tracker:
        for step in range(steps):
            optimizer.zero_grad()
            loss = model(torch.randn(16, 4)).square().mean()
            (loss * (float("nan") if bad and step == 5 else 1.0)).backward()
            optimizer.step()
    return tracker.stats()


def net() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))


def found(diagnosis: Diagnosis) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(f.rule, f.layer, f.channels) for f in diagnosis]


def test_sound_training_has_no_finding_and_rules_of_its_own() -> None:
    diagnosis = train(net()).diagnose()
    assert diagnosis.rules == RULES
    assert found(diagnosis) == []
    assert diagnosis.scope.looked == "12 layers, 4 rules, an unknown number of samples"
    activations = fmstats.profile(net(), torch.randn(400, 4), progress=False).diagnose()
    assert not set(RULES) & set(activations.rules)


def test_dead_gradients() -> None:
    model = net()
    with torch.no_grad():
        model[0].bias[2] = -100.0  # its ReLU never opens
    diagnosis = train(model).diagnose()
    assert ("no-gradient", "0.weight/gradient", (2,)) in found(diagnosis)
    assert ("no-gradient", "0.bias/gradient", (2,)) in found(diagnosis)
    first = diagnosis.findings[0]
    assert first.message == "1 of 6 channels (2): the gradient is exactly 0 in each of 12 steps"
    few = train(model, steps=3).diagnose()
    assert found(few) == []
    assert ("no-gradient", "3 steps measured, 10 needed") in {
        (row.rule, row.reason) for row in few.not_enough_data
    }
    assert found(train(model, steps=3).diagnose(thresholds={"steps": 3})) != []


def test_large_updates() -> None:
    model = net()
    profile = train(model, lr=3.0)
    hit = [layer for rule, layer, _ in found(profile.diagnose()) if rule == "large-update"]
    ratios = profile.update_ratios()
    assert hit == [f"{n}/update" for n, r in ratios.items() if r > 0.1 and "weight" in n]
    assert hit
    finding = next(f for f in profile.diagnose() if f.rule == "large-update")
    assert finding.evidence["ratio"] == pytest.approx(ratios[hit[0].removesuffix("/update")])
    limit = {"update": 1.01 * max(ratios.values())}
    assert "large-update" not in {f.rule for f in profile.diagnose(thresholds=limit)}


def test_frozen_parameters_that_move() -> None:
    model = net()
    model[0].requires_grad_(False)
    assert found(train(model).diagnose()) == []
    diagnosis = train(model, frozen_by=0.25).diagnose()
    assert found(diagnosis) == [("frozen-moves", "0.weight/update", tuple(range(6)))]
    assert diagnosis.findings[0].severity == "error"
    assert "it changes by up to 0.25" in diagnosis.findings[0].message


def test_numbers_that_are_not_finite() -> None:
    hits = found(train(net(), bad=True).diagnose())
    assert ("non-finite-parameter", "2.weight/gradient", (0, 1)) in hits
    assert ("non-finite-parameter", "0.weight", tuple(range(6))) in hits


def test_rules_of_activations_say_nothing_of_parameters() -> None:
    model = net()
    with torch.no_grad():
        model[2].weight[:, 1] = 0
        model[0].weight[3] = 0
    assert found(train(model).diagnose(["dead", "never-active", "constant"])) == []
