"""Callbacks of training loops measure on request as `track` does, and log what was measured."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import torch

import fmstats
from fmstats.errors import FmstatsError
from fmstats.integrations.asked import check_options

pytestmark = [
    pytest.mark.filterwarnings("ignore:.pin_memory. argument is set as true"),
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.. is deprecated"),
]

ASKED = {"measure": ("abs", "kurtosis", "histogram"), "backend": "torch"}
KEYS = {"mean_abs", "skewness", "kurtosis", "p1", "p50", "p99"}


def assert_measured(profile: fmstats.Profile | None, logged: set[str]) -> None:
    assert profile is not None
    for stats in profile.values():
        assert stats.measures.names == ASKED["measure"]
        assert stats.state.bins is not None
        assert stats.state.bins.sum() + (stats.zeros.sum()) == stats.finite_count.sum()
    assert {key.rsplit(".", 1)[1] for key in logged if "." in key} >= KEYS


def test_lightning(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    from lightning.pytorch.loggers import CSVLogger
    from lightning_models import Net, batches, loader, trainer

    from fmstats.integrations.lightning import FeatureMapStats

    stats, logger = FeatureMapStats(log_every_n_steps=2, **ASKED), CSVLogger(tmp_path)
    run = trainer(tmp_path, [stats], max_epochs=1, logger=logger)
    run.fit(Net(frozen=True), loader(batches()))
    with Path(logger.log_dir, "metrics.csv").open() as file:
        assert_measured(stats.profile, set(csv.DictReader(file).fieldnames or ()))


def test_transformers(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from test_integrations_transformers import Frozen

    from fmstats.integrations.transformers import FeatureMapStatsCallback

    callback = FeatureMapStatsCallback(log_every_n_steps=3, **ASKED)
    run = Frozen(tmp_path, callbacks=[callback], max_steps=6)
    run.train()
    assert_measured(callback.profile, {key for entry in run.state.log_history for key in entry})


@pytest.mark.parametrize("measure", [None, "abs", ("abs", "histogram")])
def test_a_statistic_that_is_not_measured_is_refused_before_the_training(measure: object) -> None:
    with pytest.raises(
        FmstatsError, match=r"^kurtosis is not known: it needs track\(..., measure='"
    ):
        check_options(1, None, ["mean", "kurtosis"], {"measure": measure})
    if measure:
        assert check_options(1, None, "mean_abs", {"measure": measure}) == ("mean_abs",)


def test_open_telemetry_takes_no_histograms() -> None:
    pytest.importorskip("opentelemetry.sdk")
    from fmstats.integrations.opentelemetry import observe

    with (
        fmstats.track(torch.nn.ReLU()) as tracker,
        pytest.raises(FmstatsError, match="histograms= is for Prometheus"),
    ):
        observe(tracker, histograms="*")
