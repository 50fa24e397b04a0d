"""Both callbacks end a training in which something is not finite, and tell which layer it was."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

pytest.importorskip("lightning")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

import lightning.pytorch as lightning
import transformers

import fmstats
from fmstats.integrations.intervals import Intervals
from fmstats.integrations.lightning import FeatureMapStats
from fmstats.integrations.transformers import FeatureMapStatsCallback

pytestmark = [
    pytest.mark.filterwarnings("ignore:.pin_memory. argument is set as true"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.. is deprecated"),
]
BROKEN, BATCHES = 5, 12  # the step in which layer 2 turns NaN, and steps without a stop


class Net(lightning.LightningModule):
    """Layer 2 turns NaN in one step; the optimizer then has all weights NaN."""

    def __init__(self) -> None:
        super().__init__()
        layers = (nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6), nn.Tanh(), nn.Linear(6, 6))
        self.net, self.ran = nn.Sequential(*layers), 0

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        self.ran += 1
        if self.ran == BROKEN:
            with torch.no_grad():
                self.net[2].weight[1, 1] = math.nan
        return {"loss": self.net(x).square().mean()}

    def training_step(self, x: Tensor, index: int) -> Tensor:
        return self(x)["loss"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def train_lightning(model: Net, **options: Any) -> FeatureMapStats:
    callback = FeatureMapStats(**options)
    lightning.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[callback],
    ).fit(model, torch.utils.data.DataLoader(torch.randn(BATCHES, 6), batch_size=1))
    return callback


def train_transformers(model: Net, folder: Path, **options: Any) -> FeatureMapStatsCallback:
    callback = FeatureMapStatsCallback(**options)
    arguments = transformers.TrainingArguments(
        output_dir=str(folder),
        max_steps=BATCHES,
        per_device_train_batch_size=1,
        optim="sgd",
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
    )
    data = [{"x": row} for row in torch.randn(BATCHES, 6)]
    trainer = transformers.Trainer(model, arguments, train_dataset=data)
    callback.add_to(trainer)
    trainer.train()
    return callback


FRAMEWORKS = {
    "lightning": lambda model, folder, **options: train_lightning(model, **options),
    "transformers": train_transformers,
}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_training_ends_behind_the_batch(framework: str, tmp_path: Path) -> None:
    model, seen = Net(), []
    with pytest.warns(
        RuntimeWarning, match=r"ends the training: layer 'net.2' .* in step 5"
    ) as told:
        FRAMEWORKS[framework](model, tmp_path, stop_on_nonfinite=True, on_nonfinite=seen.append)
    assert len([each for each in told if "ends the training" in str(each.message)]) == 1
    assert model.ran == BROKEN
    assert [(event.layer, event.step) for event in seen] == [("net.2", BROKEN)]


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.filterwarnings("ignore:fmstats ends the training")
def test_the_producer_is_named_by_its_step(framework: str, tmp_path: Path) -> None:
    """Intervals forget their passes, and after step 5 everything is NaN: the step is what tells."""
    model = Net()
    callback = FRAMEWORKS[framework](model, tmp_path, log_every_n_steps=2)
    assert model.ran == BATCHES
    assert callback.profile is not None
    assert callback.profile["net.0"].first_step.tolist() == [BROKEN + 1] * 6
    found = {each.layer: each for each in callback.profile.diagnose(["non-finite"]).findings}
    assert {each.evidence["producer"] for each in found.values()} == {"net.2"}
    assert "from step 5" in found["net.2"].message


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_finite_training_goes_on(framework: str, tmp_path: Path) -> None:
    model = Net()
    model.ran = BROKEN  # beyond it
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        FRAMEWORKS[framework](model, tmp_path, stop_on_nonfinite=True)
    assert not [each for each in caught if "fmstats" in str(each.message)]
    assert model.ran == BROKEN + BATCHES


def test_ranks_know_when_an_interval_ends(tmp_path: Path) -> None:
    """One that ended by itself would leave the others waiting."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
        intervals = Intervals(model, stop_on_nonfinite=True)
        with torch.no_grad():
            model[0].weight[0] = math.nan
        for step in (1, 2):
            intervals.begin()
            model(torch.ones(1, 2))
            intervals.end()
            intervals.reaches(step, 2)
            assert intervals.broken is None
        intervals.flush(2)
        assert intervals.broken == (
            "layer '0' (Linear) has elements that are not finite since step 1"
        )
        intervals.close()
    finally:
        dist.destroy_process_group()


def test_an_interval_repeats_no_event() -> None:
    """Each interval resets the tracker, which tells anew of a layer that stays broken."""
    seen: list[fmstats.NonFiniteEvent] = []
    model = nn.Sequential(nn.Linear(2, 2), nn.Tanh())
    intervals = Intervals(model, on_nonfinite=seen.append)
    with torch.no_grad():
        model[0].weight[0] = math.nan
    for step in range(1, 5):
        intervals.begin()
        model(torch.ones(1, 2))
        intervals.end()
        intervals.flush(step)
    intervals.close()
    assert [(event.layer, event.step) for event in seen] == [("0", 1)]


@pytest.mark.parametrize("name", ["lightning", "transformers"])
def test_all_intervals_are_closed_though_one_tells_at_last(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a tracker closes it waits for a GPU, and may raise."""

    def close(tracker: fmstats.Tracker) -> None:
        tracker._remove_hooks()
        raise RuntimeError("not finite")

    monkeypatch.setattr(fmstats.Tracker, "close", close)
    model = nn.Linear(2, 2)
    both = Intervals(model), Intervals(model)
    if name == "lightning":
        callback = FeatureMapStats()
        callback._train, callback._validation = both
        shut = callback._close
    else:
        other = FeatureMapStatsCallback()
        other._train, other._evaluation = both
        shut = other.close
    with pytest.raises(RuntimeError, match="not finite"):
        shut()
    assert not model._forward_hooks
    assert not any(each.is_open for each in both)
    shut()


@pytest.mark.parametrize("callback", [FeatureMapStats, FeatureMapStatsCallback])
def test_a_wrong_wish_is_refused_at_once(callback: Any) -> None:
    with pytest.raises(fmstats.FmstatsError, match=r"on_nonfinite='stop': choose 'ignore'"):
        callback(on_nonfinite="stop")
