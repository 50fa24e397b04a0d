"""Two runs over the same inputs: what changed is the model, and rounding is no change."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import fmstats
from fmstats import FmstatsError, Profile

Run = Callable[..., tuple[int, str, str]]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(384, 5),
    ).eval()


def images(n: int = 32) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(n, 3, 12, 12)


def run(model: nn.Module, batch: int = 8, n: int = 32, **options: object) -> Profile:
    return fmstats.profile(model, images(n).split(batch), progress=False, **options)


@pytest.fixture(scope="module")
def before() -> Profile:
    return run(network())


def test_the_same_run_twice(before: Profile) -> None:
    found = run(network()).compare(before, paired=True)
    assert (found.verdict, found.score, found.drift) == ("no change beyond rounding", 0.0, False)
    assert all(row["score"] == 0 for row in found.top_layers())
    assert math.isnan(found.threshold)
    assert found.to_dict()["threshold"] is None
    assert found.to_dict()["paired"] is True


@pytest.mark.parametrize(
    "options",
    [
        {"batch": 1},
        {"batch": 5},
        {"channels_last": True},
        {"backend": "reference"},
        {"backend": "torch"},
        {"dtype": torch.float64},
        {"dtype": torch.bfloat16},
    ],
)
def test_rounding_is_no_change(before: Profile, options: dict[str, object]) -> None:
    found = run(network(), **options).compare(before, paired=True)
    assert (found.verdict, found.score) == ("no change beyond rounding", 0.0)


def test_a_scaled_weight_is_found_with_its_exact_size(before: Profile) -> None:
    model = network()
    with torch.no_grad():
        model[2].weight[4] *= 1.01
        model[2].bias[4] *= 1.01
    after = run(model)
    found = after.compare(before, paired=True)
    assert found.verdict == "changed"
    changed = [row["layer"] for row in found.top_layers() if row["score"] > 0]
    assert set(changed) == {"2", "3", "4", "5"}  # the layer, and those behind it
    effects = next(layer for layer in found.layers if layer.layer == "2").effects
    assert np.flatnonzero(effects.shift).tolist() == [4]
    assert effects.spread[4] == pytest.approx(2 * math.log(1.01), rel=1e-4)
    expected = 0.01 * before["2"].mean[4] / before["2"].std[4]
    assert effects.shift[4] == pytest.approx(expected, rel=1e-3)
    first = found.describe().splitlines()[0]
    most = found.top_layers(1)[0]["layer"]
    assert first == (
        f"changed: first in 2, most in {most}, by {found.score:.4g} standard deviations"
    )
    assert "by chance" not in found.describe()


def test_a_channel_that_has_died(before: Profile) -> None:
    model = network()
    with torch.no_grad():
        model[0].bias[3] = -100.0
    found = run(model).compare(before, paired=True)
    relu = next(layer for layer in found.layers if layer.layer == "1")
    assert relu.row()["newly_dead"] == 1
    assert found.top_channels(1)[0]["channel"] == 3


def test_a_verdict_of_drift_needs_a_threshold(before: Profile) -> None:
    model = network()
    with torch.no_grad():
        model[0].weight[1] *= 3
    after = run(model)
    assert not after.compare(before, paired=True)
    score = after.compare(before, paired=True).score
    assert after.compare(before, paired=True, threshold=0.99 * score).verdict == "drift"
    assert after.compare(before, paired=True, threshold=1.01 * score).verdict == "no drift"


def test_other_inputs_are_refused(before: Profile) -> None:
    with pytest.raises(FmstatsError, match=r"has seen 16 samples, the baseline 32\. Run both mod"):
        run(network(), n=16).compare(before, paired=True)
    other = before.with_metadata({**before.metadata, "inputs": {"size": 224}})
    with pytest.raises(FmstatsError, match="paired: the images were prepared otherwise"):
        before.with_metadata({**before.metadata, "inputs": {"size": 48}}).compare(
            other, paired=True
        )
    with pytest.raises(FmstatsError, match="takes no calibration"):
        before.compare(before, paired=True, calibration=[before] * 3)


def test_what_is_not_known_of_the_inputs_is_told(before: Profile) -> None:
    untold = before.with_metadata({k: v for k, v in before.metadata.items() if k != "data"})
    text = before.compare(untold, paired=True).describe()
    assert "that these are the same is taken on trust" in text
    a, b = (before.with_metadata({**before.metadata, "data": name}) for name in ("x", "y"))
    assert "the profiles name other inputs: x and y" in a.compare(b, paired=True).describe()
    unknown = before.with_metadata({**before.metadata, "samples": None})
    assert "the number of samples is not known" in unknown.compare(unknown, paired=True).describe()


def test_another_architecture(before: Profile) -> None:
    model = copy.deepcopy(network())
    model.append(nn.Identity())
    after = run(model)
    with pytest.raises(FmstatsError):
        after.compare(before, paired=True)
    found = after.compare(before, paired=True, missing="drop")
    assert found.left_out
    assert found.score == 0


def test_histograms_tell_what_moments_miss() -> None:
    class Shape(nn.Module):
        def __init__(self, both: bool) -> None:
            super().__init__()
            self.both = both

        def forward(self, x: Tensor) -> Tensor:
            # Both have mean 0 and variance 1: two values, or a normal distribution.
            return x.sign() if self.both else x

    x = torch.randn(1000, 4)
    x = (x - x.mean(0)) / x.std(0, correction=0)
    x = torch.cat([x, -x])
    runs = [
        fmstats.profile(Shape(both), x, measure="histogram", include=Shape, progress=False)
        for both in (False, True)
    ]
    found = runs[1].compare(runs[0], paired=True)
    assert found.top_layers(1)[0]["wasserstein"] > 0.2
    assert found.verdict == "changed"


def test_command_line(command_line: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("typer", reason="needs typer")
    monkeypatch.chdir(tmp_path)
    model = network()
    run(model).save("before.fmstats")
    with torch.no_grad():
        model[2].weight[1] *= 2
    run(model).save("after.fmstats")
    code, out, err = command_line("compare", "after.fmstats", "before.fmstats", "--paired")
    assert (code, err) == (0, "")
    assert "changed: first in 2, most in " in out
    pair = ("compare", "after.fmstats", "before.fmstats", "--paired", "--fail-on-drift")
    assert command_line(*pair, "--threshold", 0.001)[0] == 1
    assert command_line(*pair, "--threshold", 9)[0] == 0
    assert command_line(*pair)[0] == 2  # nothing says how large a change is drift
    told = json.loads(command_line(*pair[:4], "--json")[1])
    assert (told["paired"], told["threshold"], told["verdict"]) == (True, None, "changed")


def test_report(tmp_path: Path) -> None:
    pytest.importorskip("jinja2", reason="needs jinja2")
    from fmstats.report import write_report

    model = network()
    before = run(model)
    with torch.no_grad():
        model[2].weight[1] *= 2
    after = run(model)
    write_report(after, tmp_path / "page.html", after.compare(before, paired=True))
    page = (tmp_path / "page.html").read_text()
    assert "standard deviations, on the same inputs" in page
    assert "about 1 by chance" not in page
    assert '"threshold": null' in page or '"threshold":null' in page
