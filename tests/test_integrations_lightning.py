"""The Lightning callback: every batch in one interval, whatever happens to training."""

from __future__ import annotations

import contextlib
import csv
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tolerances import ROUNDING, assert_equal_states

import fmstats

pytest.importorskip("lightning")

from lightning.pytorch import Callback, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning_models import Net, Resumable, batches, hooks_of, loader, plain, trainer

from fmstats.integrations.lightning import FeatureMapStats

HERE = Path(__file__).parent

pytestmark = [
    pytest.mark.filterwarnings("ignore:You defined a `validation_step` but have no"),
    pytest.mark.filterwarnings("ignore:The dirpath has changed from"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.. is deprecated"),
    pytest.mark.filterwarnings("ignore:.*you have not set `save_top_k`"),
]


def assert_same(got, want, names=None):
    assert names or list(got) == list(want)
    for name in names or want:
        assert_equal_states(got[name].state, want[name].state, ROUNDING)
        assert got.info[name].calls == want.info[name].calls


class Collect(Callback):
    """Keeps the profile of each interval."""

    def __init__(self, stats):
        self.stats, self.seen = stats, []

    def on_train_batch_end(self, *_):
        if self.stats.last is not None and self.stats.last is not (self.seen or [None])[-1]:
            self.seen.append(self.stats.last)


def rows_of(logger):
    with open(Path(logger.log_dir, "metrics.csv")) as file:
        return list(csv.DictReader(file))


def test_intervals_neither_overlap_nor_lose_batches(tmp_path):
    stats = FeatureMapStats(log_every_n_steps=3, module="net")
    collect = Collect(stats)
    model, data = Net(frozen=True), batches()
    trainer(tmp_path, [stats, collect], max_epochs=1).fit(model, loader(data))
    assert [part.metadata["steps"] for part in collect.seen] == [[1, 3], [4, 6]]
    for part, begin in zip([*collect.seen, stats.last], (0, 3, 6), strict=True):
        assert_same(part, plain(data[begin : begin + 3]))
    assert stats.last.metadata["steps"] == [7, 7]
    assert_same(stats.profile, plain(data))
    assert stats.profile.metadata["steps"] == [1, 7]
    assert hooks_of(model) == 0


def test_what_is_logged_is_the_interval_s(tmp_path):
    logger = CSVLogger(tmp_path)
    stats = FeatureMapStats(log_every_n_steps=4, include="net.1", stats="mean")
    data = batches()
    trainer(tmp_path, [stats], max_epochs=1, logger=logger).fit(Net(frozen=True), loader(data))
    rows = [row for row in rows_of(logger) if row.get("fmstats/train/net.1.mean")]
    assert [row["step"] for row in rows] == ["4", "7"]
    for row, part in zip(rows, (data[:4], data[4:]), strict=True):
        want = plain(part).scalars("mean")["1.mean"]
        assert math.isclose(float(row["fmstats/train/net.1.mean"]), want, rel_tol=1e-12)
    assert {key for row in rows for key in row if key.startswith("fmstats")} == {
        "fmstats/train/net.1.mean"
    }


def test_interval_of_the_trainer_and_several_epochs(tmp_path):
    stats, data = FeatureMapStats(module="net"), batches()
    collect = Collect(stats)
    run = trainer(tmp_path, [stats, collect], max_epochs=2, log_every_n_steps=5)
    run.fit(Net(frozen=True), loader(data))
    assert [part.metadata["steps"] for part in collect.seen] == [[1, 5], [6, 10]]
    assert_same(collect.seen[1], plain([*data[5:], *data[:3]]))
    assert_same(stats.profile, plain([*data, *data]))


def test_accumulated_batches_are_of_one_step(tmp_path):
    stats, data = FeatureMapStats(module="net", log_every_n_steps=2), batches()
    collect = Collect(stats)
    run = trainer(tmp_path, [stats, collect], max_epochs=1, accumulate_grad_batches=2)
    run.fit(Net(frozen=True), loader(data))
    assert_same(collect.seen[0], plain(data[:4]))
    assert_same(collect.seen[1], plain(data[4:]))


def test_sampled_batches(tmp_path):
    stats, data = FeatureMapStats(every=3, log_every_n_steps=4), batches()
    trainer(tmp_path, [stats], max_epochs=1).fit(Net(frozen=True), loader(data))
    want = plain([data[0], data[3], data[6]])
    for name in want:
        assert_equal_states(stats.profile[f"net.{name}"].state, want[name].state, ROUNDING)
    assert stats.profile.metadata["every"] == 3


def test_validation_is_apart_and_the_sanity_check_not_counted(tmp_path):
    logger = CSVLogger(tmp_path)
    stats = FeatureMapStats(module="net", validation=True, log_every_n_steps=100, stats="mean")
    data, held_out = batches(), batches(9)
    run = trainer(tmp_path, [stats], max_epochs=2, num_sanity_val_steps=2, logger=logger)
    model = Net(frozen=True)
    run.fit(model, loader(data), loader(held_out))
    assert_same(stats.profile, plain([*data, *data]))
    assert_same(stats.validation_profile, plain([*held_out, *held_out]))
    key = "fmstats/val/1.mean"
    assert [row["step"] for row in rows_of(logger) if row.get(key)] == ["7", "14"]
    run.validate(model, loader(held_out), verbose=False)
    assert_same(stats.validation_profile, plain([*held_out, *held_out]))
    assert hooks_of(model) == 0


def test_no_validation_unless_asked_for(tmp_path):
    stats, data = FeatureMapStats(module="net"), batches()
    trainer(tmp_path, [stats], max_epochs=1).fit(Net(frozen=True), loader(data), loader(data))
    assert_same(stats.profile, plain(data))
    assert stats.validation_profile is None


def test_an_exception_removes_hooks_and_keeps_what_was_seen(tmp_path):
    path = tmp_path / "new" / "run.fmstats"
    stats = FeatureMapStats(module="net", log_every_n_steps=3, save=path, validation=True)
    model, data = Net(fail_at=4, frozen=True), batches()
    with pytest.raises(RuntimeError, match="the batch is bad"):
        trainer(tmp_path, [stats], max_epochs=1).fit(model, loader(data), loader(data))
    assert hooks_of(model) == 0
    assert_same(stats.last, plain(data[3:5]))
    assert_same(fmstats.load(path), plain(data[:5]))


def test_an_exception_before_training(tmp_path):
    stats = FeatureMapStats()
    with pytest.raises(TypeError):
        trainer(tmp_path, [stats], max_epochs=1).fit(Net(), loader(batches()), loader([None]))
    assert stats.profile is None


def test_the_file_is_the_profile(tmp_path):
    path = tmp_path / "run.fmstats"
    stats = FeatureMapStats(module="net", save=path)
    trainer(tmp_path, [stats], max_epochs=1).fit(Net(), loader(batches()))
    assert_same(fmstats.load(path), stats.profile)


def test_a_resumed_run_logs_what_an_unbroken_one_does(tmp_path):
    """The checkpoint is made within an interval; the run that fails goes on beyond it."""
    data, logs, ends = batches(), {}, {}

    def run(name, fail_at=None, resume=None):
        stats = FeatureMapStats(
            log_every_n_steps=4, every=2, validation=True, stats=("mean", "std")
        )
        keep = ModelCheckpoint(tmp_path / "kept" / name, every_n_train_steps=3, save_top_k=-1)
        logger = CSVLogger(tmp_path, name)
        options = {"max_epochs": 2, "logger": logger, "enable_checkpointing": True}
        model = Net(fail_at)
        with contextlib.nullcontext() if fail_at is None else pytest.raises(RuntimeError):
            trainer(tmp_path, [stats, keep], **options).fit(
                model, Resumable(data), loader(batches(9)), ckpt_path=resume
            )
        assert hooks_of(model) == 0
        logs[name], ends[name] = rows_of(logger) if fail_at is None else [], stats

    run("unbroken")
    run("broken", fail_at=5)
    run("resumed", resume=tmp_path / "kept" / "broken" / "epoch=0-step=3.ckpt")
    train = [
        {row["step"]: row for row in logs[name] if row["fmstats/train/net.0.mean"]}
        for name in ("unbroken", "resumed")
    ]
    assert list(train[0]) == list(train[1]) == ["4", "8", "12", "14"]
    for step, row in train[0].items():
        for key, value in row.items():
            if key.startswith("fmstats/train") and value:
                assert math.isclose(float(train[1][step][key]), float(value), rel_tol=1e-9)
    assert_same(ends["resumed"].profile, ends["unbroken"].profile)
    assert_same(ends["resumed"].validation_profile, ends["unbroken"].validation_profile)


def test_fitting_again_begins_anew(tmp_path):
    stats, model, data = FeatureMapStats(module="net"), Net(frozen=True), batches()
    for _ in range(2):
        trainer(tmp_path, [stats], max_epochs=1).fit(model, loader(data))
        assert_same(stats.profile, plain(data))
    assert hooks_of(model) == 0


def test_calls_apart_in_a_submodule(tmp_path):
    stats, data = FeatureMapStats(module="net", per_call=True), batches()
    trainer(tmp_path, [stats], max_epochs=1).fit(Net(frozen=True), loader(data))
    assert list(stats.profile) == ["0#0", "1#0", "2#0"]
    assert_equal_states(stats.profile["1#0"].state, plain(data)["1"].state, ROUNDING)


def test_a_mask_and_groups_in_a_submodule(tmp_path):
    """The first sample of each batch is in a group of its own, and a batch of one is left out."""
    known = {
        "mask": lambda args, _: torch.arange(len(args[0])) < (0 if len(args[0]) == 1 else 9),
        "groups": lambda args, _: (torch.arange(len(args[0])) > 0).long(),
        "group_names": ["first", "rest"],
    }
    stats, data = FeatureMapStats(module="net", **known), batches()
    trainer(tmp_path, [stats], max_epochs=1).fit(Net(frozen=True), loader(data))
    parts = {
        **{None: [x for x in data if len(x) > 1]},
        "first": [x[:1] for x in data if len(x) > 1],
        "rest": [x[1:] for x in data if len(x) > 1],
    }
    for name, part in parts.items():
        got = stats.profile if name is None else stats.profile.groups[name]
        for row, want in plain(part).items():
            assert got[row].count.tolist() == want.count.tolist()
            # Products of other sizes are rounded otherwise.
            assert got[row].mean == pytest.approx(want.mean, rel=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"per_call": True}, "per_call= needs module="),
        ({"mask": "auto"}, "mask= needs module=: Lightning does not call"),
        ({"groups": "labels"}, "groups= needs module="),
        ({"when": "train"}, "when= is not for a training loop: training and validation are told"),
        ({"budget": 0.1}, "budget= is not for a training loop: every= says"),
        ({"every": 0}, "every=0: give a whole number, 1 or more"),
        ({"log_every_n_steps": 0}, "log_every_n_steps=0: give a whole number, 1 or more"),
        ({"stats": ["average"]}, "unknown statistic 'average': choose channels"),
    ],
)
def test_what_is_refused_at_once(options, message):
    with pytest.raises(fmstats.FmstatsError, match=message):
        FeatureMapStats(**options)


def test_an_unknown_submodule(tmp_path):
    stats = FeatureMapStats(module="nett")
    with pytest.raises(fmstats.FmstatsError, match=r"'nett': Net has no such .*; closest: net"):
        trainer(tmp_path, [stats], max_epochs=1).fit(Net(), loader(batches()))


def test_the_other_package_calls_it_as_well(tmp_path):
    pytorch_lightning = pytest.importorskip("pytorch_lightning")

    class Other(pytorch_lightning.LightningModule):
        training_step = Net.training_step
        configure_optimizers = Net.configure_optimizers

        def __init__(self):
            super().__init__()
            self.net, self.fail_at, self.frozen = Net().net, None, True

    stats, data = FeatureMapStats(module="net"), batches()
    seed_everything(1, verbose=False)
    pytorch_lightning.Trainer(
        default_root_dir=tmp_path,
        callbacks=[stats],
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(Other(), loader(data))
    assert_same(stats.profile, plain(data))


def test_ranks_are_merged_at_the_end_of_an_interval(tmp_path):
    paths = [str(Path(fmstats.__file__).parents[1]), str(HERE), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *("--nproc-per-node", "2", str(HERE / "lightning_worker.py"), str(tmp_path)),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    ranks = [fmstats.load(tmp_path / f"rank{rank}.fmstats") for rank in range(2)]
    both = [*batches(0), *batches(1)]
    want = plain(both)
    for got in (*ranks, fmstats.load(tmp_path / "saved.fmstats")):
        assert_same(got, want)
    words = [{name: got[name].state.words for name in got} for got in ranks]
    assert all(torch.equal(words[0][name], words[1][name]) for name in want)
    with open(tmp_path / "log" / "metrics.csv") as file:
        rows = list(csv.DictReader(file))
    steps = {row["step"]: row for row in rows if row["fmstats/train/1.mean"]}
    assert list(steps) == ["4", "7"]
    first = plain([*batches(0)[:4], *batches(1)[:4]]).scalars("mean")["1.mean"]
    assert math.isclose(float(steps["4"]["fmstats/train/1.mean"]), first, rel_tol=1e-12)


def test_two_parts_of_a_model_at_once(tmp_path):
    """Each has its own place in a checkpoint, which Lightning asks for."""
    callbacks = [
        FeatureMapStats(module="net.0", prefix="first/", log_every_n_steps=2),
        FeatureMapStats(module="net.2", prefix="second/", log_every_n_steps=2),
        FeatureMapStats(log_every_n_steps=2),
    ]
    trainer(tmp_path, callbacks, max_epochs=1).fit(Net(), loader(batches()))
    assert len({callback.state_key for callback in callbacks}) == 3
    assert callbacks[2].state_key == "FeatureMapStats"  # as in checkpoints of 0.1
    assert [next(iter(stats.profile.layers()))["channels"] for stats in callbacks] == [8, 2, 8]
