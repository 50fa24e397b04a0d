"""Both callbacks log the same training at the same steps, each step once."""

from __future__ import annotations

import itertools
import math
import operator

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("lightning")
pytest.importorskip("transformers")
pytest.importorskip("accelerate")

import lightning.pytorch as lightning
import transformers
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers.logger import DummyLogger
from lightning_models import Resumable

from fmstats.integrations.lightning import FeatureMapStats
from fmstats.integrations.transformers import FeatureMapStatsCallback

pytestmark = [
    pytest.mark.filterwarnings("ignore:.pin_memory. argument is set as true"),
    pytest.mark.filterwarnings("ignore:.*does not have many workers"),
    pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty"),
    pytest.mark.filterwarnings("ignore:.*smaller than the logging interval"),
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.. is deprecated"),
    pytest.mark.filterwarnings("ignore:.*you have not set `save_top_k`"),
]

STATS = ("mean", "std", "sparsity", "count", "nan", "inf")


class Net(lightning.LightningModule):
    """Has a layer that shows the batches as they are, whatever the optimizer does."""

    def __init__(self, steps_at=None):
        super().__init__()
        self.layer, self.weight = nn.Identity(), nn.Parameter(torch.ones(()))
        self.automatic_optimization, self.steps_at = steps_at is None, steps_at

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        self.layer(x)
        return {"loss": self.weight.square(), "logits": x}

    def training_step(self, x, index):
        loss = self(x)["loss"]
        if self.automatic_optimization:
            return loss
        for _ in range(self.steps_at.count(index)):
            self.optimizers().step()
        return None

    def validation_step(self, x, index):
        self(x)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Rows(DummyLogger):
    """Keeps all that is logged, a step that is logged twice as well."""

    def __init__(self):
        super().__init__()
        self.rows = []

    def log_metrics(self, metrics, step=None):
        self.rows.append((step, dict(metrics)))


def data_of(count):
    """Batch 1 consists of ones, batch 2 of twos: a mean tells which batches are in it."""
    return [torch.full((2, 3), number + 1.0) for number in range(count)]


def rows_with(rows, prefix):
    """The steps whose rows have numbers of the layer, and these numbers by their names."""
    begin = f"{prefix}layer."
    found = [
        (step, {k[len(begin) :]: row[k] for k in row if k.startswith(begin)}) for step, row in rows
    ]
    return [(step, numbers) for step, numbers in found if numbers]


def in_lightning(folder, data, n=None, *, net=None, callbacks=(), resume=None, **options):
    logger, stats = Rows(), FeatureMapStats(log_every_n_steps=n, stats=STATS, validation=True)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    common = {"accelerator": "cpu", "max_epochs": 1, "enable_checkpointing": False}
    lightning.Trainer(
        default_root_dir=folder,
        callbacks=[*callbacks, stats],
        logger=logger,
        **{**quiet, **common, **options},
    ).fit(net or Net(), Resumable(data), Resumable(data_of(2)), ckpt_path=resume)
    return logger.rows, stats


class Plain(transformers.Trainer):
    """Takes the batches in their order."""

    def get_train_dataloader(self):
        return torch.utils.data.DataLoader(self.train_dataset, collate_fn=operator.itemgetter(0))

    def get_eval_dataloader(self, eval_dataset=None):
        return torch.utils.data.DataLoader(self.eval_dataset, collate_fn=operator.itemgetter(0))


def in_transformers(folder, data, n=None, *, kind=Plain, callbacks=(), resume=None, **options):
    stats = FeatureMapStatsCallback(log_every_n_steps=n, stats=STATS, evaluation=True)
    quiet = {"report_to": "none", "use_cpu": True, "disable_tqdm": True}
    common = {"num_train_epochs": 1, "save_strategy": "no"}
    trainer = kind(
        Net(),
        transformers.TrainingArguments(str(folder), **{**quiet, **common, **options}),
        train_dataset=[{"x": x} for x in data],
        eval_dataset=[{"x": x} for x in data_of(2)],
        callbacks=[*callbacks],
    )
    stats.add_to(trainer)
    trainer.train(resume_from_checkpoint=resume)
    return [(row["step"], row) for row in trainer.state.log_history], stats


def means(rows, prefix="fmstats/"):
    return [(step, numbers["mean"]) for step, numbers in rows_with(rows, prefix)]


def mean_of(*numbers):
    return sum(numbers) / len(numbers)


@pytest.mark.parametrize(
    ("count", "n", "steps"),
    [
        (7, 3, [3, 6, 7]),
        (6, 3, [3, 6]),  # the last step is a multiple: not twice
        (3, 1, [1, 2, 3]),
        (4, 100, [4]),
    ],
)
@pytest.mark.parametrize("of_the_trainer", [False, True])
def test_multiples_and_the_last_step(tmp_path, count, n, steps, of_the_trainer):
    data = data_of(count)
    if of_the_trainer:
        one, _ = in_lightning(tmp_path, data, log_every_n_steps=n)
        other, _ = in_transformers(tmp_path, data, logging_steps=n)
    else:
        one, _ = in_lightning(tmp_path, data, n)
        other, _ = in_transformers(tmp_path, data, n)
    batches = [range(a + 1, b + 1) for a, b in itertools.pairwise([0, *steps])]
    want = [(step, mean_of(*numbers)) for step, numbers in zip(steps, batches, strict=True)]
    assert means(one, "fmstats/train/") == means(other) == want


def test_accumulated_batches_over_epochs(tmp_path):
    """Five batches make three steps, the last of one batch."""
    data = data_of(5)
    one, _ = in_lightning(tmp_path, data, 2, accumulate_grad_batches=2, max_epochs=3)
    other, _ = in_transformers(tmp_path, data, 2, gradient_accumulation_steps=2, num_train_epochs=3)
    want = [
        *((2, mean_of(1, 2, 3, 4)), (4, mean_of(5, 1, 2)), (6, mean_of(3, 4, 5))),
        *((8, mean_of(1, 2, 3, 4)), (9, 5.0)),
    ]
    assert means(one, "fmstats/train/") == means(other) == want


def test_epochs_end_no_interval(tmp_path):
    one, _ = in_lightning(tmp_path, data_of(4), 3, max_epochs=2)
    other, _ = in_transformers(tmp_path, data_of(4), 3, num_train_epochs=2)
    want = [(3, 2.0), (6, mean_of(4, 1, 2)), (8, 3.5)]
    assert means(one, "fmstats/train/") == means(other) == want


def test_validations_end_no_interval(tmp_path):
    one, _ = in_lightning(tmp_path, data_of(8), 3, val_check_interval=2)
    other, _ = in_transformers(tmp_path, data_of(8), 3, eval_strategy="steps", eval_steps=2)
    assert means(one, "fmstats/train/") == means(other) == [(3, 2.0), (6, 5.0), (8, 7.5)]
    want = [(2, 1.5), (4, 1.5), (6, 1.5), (8, 1.5)]
    assert means(one, "fmstats/val/") == means(other, "eval_fmstats/") == want


def test_training_that_stops_early(tmp_path):
    one, _ = in_lightning(tmp_path, data_of(8), 3, max_steps=4)
    other, _ = in_transformers(tmp_path, data_of(8), 3, max_steps=4)
    assert means(one, "fmstats/train/") == means(other) == [(3, 2.0), (4, 4.0)]


def test_a_trainer_that_never_logs(tmp_path):
    one, _ = in_lightning(tmp_path, data_of(4), log_every_n_steps=0)
    other, _ = in_transformers(tmp_path, data_of(4), logging_strategy="no")
    assert means(one, "fmstats/train/") == means(other) == [(4, 2.5)]


@pytest.mark.parametrize("n", [3, 4])
def test_after_a_resume(tmp_path, n):
    """The interval may have another length than in the run that was saved."""
    keep = ModelCheckpoint(tmp_path / "kept", every_n_train_steps=5, save_top_k=-1)
    saves = {"callbacks": [keep], "enable_checkpointing": True}
    in_lightning(tmp_path, data_of(10), 3, **saves)
    path = tmp_path / "kept" / "epoch=0-step=5.ckpt"
    one, stats = in_lightning(tmp_path, data_of(10), n, resume=path, **saves)
    in_transformers(tmp_path, data_of(10), 3, save_strategy="steps", save_steps=5)
    path = str(tmp_path / "checkpoint-5")
    other, _ = in_transformers(tmp_path, data_of(10), n, resume=path)
    steps = [step for step, _ in means(one, "fmstats/train/")]
    assert steps == [step for step, _ in means(other) if step > 5]
    assert steps == [step for step in range(6, 11) if step % n == 0 or step == 10]
    assert stats.profile["layer"].count[0] == 10 * 2


class SavesFirst(lightning.Callback):
    """Makes a checkpoint at step 3, before what follows in the list has seen its end."""

    def __init__(self, path):
        self.path = path

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == 3:
            trainer.save_checkpoint(self.path)


def test_a_checkpoint_made_before_its_step_was_logged(tmp_path):
    path = tmp_path / "early.ckpt"
    unbroken, _ = in_lightning(tmp_path, data_of(7), 3, callbacks=[SavesFirst(path)])
    resumed, _ = in_lightning(tmp_path, data_of(7), 3, resume=path)
    want = [(3, 2.0), (6, 5.0), (7, 7.0)]
    assert means(unbroken, "fmstats/train/") == means(resumed, "fmstats/train/") == want


class StopsWithin(transformers.TrainerCallback):
    """Stops at a batch that makes no step."""

    def on_substep_end(self, args, state, control, **_):
        control.should_training_stop = state.global_step == 3


def test_batches_after_the_last_step(tmp_path):
    """They are in the profile. Step 3 has been logged, and is not logged again."""
    one, lightnings = in_lightning(tmp_path, data_of(7), 3, net=Net(steps_at=[1, 3, 5]))
    other, trainers = in_transformers(
        tmp_path, data_of(9), 3, callbacks=[StopsWithin()], gradient_accumulation_steps=2
    )
    assert means(one, "fmstats/train/") == means(other) == [(3, 3.5)]
    for stats in (lightnings, trainers):
        assert stats.profile["layer"].mean[0] == 4.0
        assert stats.profile.metadata["steps"] == [1, 3]
        assert stats.profile.metadata["every"] == 1
        assert stats.last.metadata["steps"] == [1, 3]


def test_training_without_a_step(tmp_path):
    rows, stats = in_lightning(tmp_path, data_of(4), 3, net=Net(steps_at=[]))
    assert means(rows, "fmstats/train/") == []
    assert stats.profile["layer"].mean[0] == 2.5


def test_batches_of_two_steps(tmp_path):
    """As of two optimizers. Step 3 is within the second batch, which ends with step 4."""
    net = Net(steps_at=sorted([*range(5)] * 2))
    rows, _ = in_lightning(tmp_path, data_of(5), 3, net=net)
    assert means(rows, "fmstats/train/") == [(4, 1.5), (6, 3.0), (10, 4.5)]


class LogsAlso(transformers.TrainerCallback):
    """Has the Trainer log at step 4, too."""

    def on_step_end(self, args, state, control, **_):
        if state.global_step == 4:
            control.should_log = True


@pytest.mark.parametrize("n", [None, 3])
def test_other_logs_of_the_loss_end_no_interval(tmp_path, n):
    rows, _ = in_transformers(
        tmp_path,
        data_of(7),
        n,
        callbacks=[LogsAlso()],
        logging_first_step=True,
        logging_steps=3,
    )
    assert [step for step, row in rows if "loss" in row] == [1, 3, 4, 6]
    assert means(rows) == [(3, 2.0), (6, 5.0), (7, 7.0)]


class LogsLosses(Plain):
    """Logs something called a loss within each batch, before its step is done."""

    def compute_loss(self, *arguments, **options):
        self.log({"loss": 1.0})
        return super().compute_loss(*arguments, **options)

    def prediction_step(self, *arguments, **options):
        self.log({"loss": 1.0})
        return super().prediction_step(*arguments, **options)


def test_losses_that_are_logged_within_batches(tmp_path):
    options = {"kind": LogsLosses, "eval_strategy": "steps", "eval_steps": 3, "logging_steps": 3}
    for n in (None, 3):
        rows, stats = in_transformers(tmp_path, data_of(6), n, **options)
        assert means(rows) == [(3, 2.0), (6, 5.0)]
        assert stats.last.metadata["steps"] == [4, 6]


class Silences(transformers.TrainerCallback):
    """Keeps the Trainer from logging at step 2."""

    def on_step_end(self, args, state, control, **_):
        if state.global_step == 2:
            control.should_log = False
        return control


def test_a_log_that_is_held_back(tmp_path):
    """The interval goes on to the next multiple, and ends in the midst of no batch."""
    options = {"kind": LogsLosses, "callbacks": [Silences()], "logging_steps": 2}
    for n in (None, 2):
        rows, _ = in_transformers(tmp_path, data_of(5), n, **options)
        assert means(rows) == [(4, 2.5), (5, 5.0)]


class CallsItLast(LogsLosses):
    """Calls the callback for statistics after all others."""

    def train(self, **options):
        callbacks = self.callback_handler.callbacks
        callbacks.append(callbacks.pop(0))
        return super().train(**options)


def test_the_trainer_s_own_log_stays_held_back(tmp_path):
    """The callback asks for no log where the interval is the Trainer's."""
    options = {"callbacks": [Silences()], "logging_steps": 2}
    rows, _ = in_transformers(tmp_path, data_of(5), kind=CallsItLast, **options)
    assert means(rows) == [(4, 2.5), (5, 5.0)]
    rows, _ = in_transformers(tmp_path, data_of(5), 2, kind=CallsItLast, **options)
    assert means(rows) == [(2, 1.5), (4, 3.5), (5, 5.0)]


class EvaluatesOnTraining(Plain):
    """Evaluates with metrics that are called as those of training are."""

    def evaluate(self, *_, **__):
        return super().evaluate(metric_key_prefix="train")


def test_an_evaluation_that_is_called_train(tmp_path):
    options = {"kind": EvaluatesOnTraining, "eval_strategy": "steps", "eval_steps": 2}
    rows, _ = in_transformers(tmp_path, data_of(5), 3, **options)
    assert means(rows) == [(3, 2.0), (5, 4.5)]
    assert means(rows, "train_fmstats/") == [(2, 1.5), (4, 1.5), (5, 1.5)]


def test_a_trainer_that_logs_epochs(tmp_path):
    options = {"logging_strategy": "epoch", "num_train_epochs": 2}
    rows, _ = in_transformers(tmp_path, data_of(4), **options)
    assert means(rows) == [(4, 2.5), (8, 2.5)]
    rows, _ = in_transformers(
        tmp_path, data_of(5), callbacks=[LogsAlso()], logging_steps=2, **options
    )
    assert means(rows) == [(5, 3.0), (10, 3.0)]
    rows, _ = in_transformers(tmp_path, data_of(4), 3, **options)
    assert means(rows) == [(3, 2.0), (6, mean_of(4, 1, 2)), (8, 3.5)]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_interval_without_finite_elements(tmp_path, value):
    """Its counts are logged; a mean or a sparsity of 0 would look healthy."""
    data = [*data_of(2), *[torch.full((2, 3), value)] * 2, *data_of(2)]
    one, _ = in_lightning(tmp_path, data, 2)
    other, _ = in_transformers(tmp_path, data, 2)
    bad = {"nan": 12.0, "inf": 0.0} if math.isnan(value) else {"nan": 0.0, "inf": 12.0}
    good = {
        "mean": 1.5,
        "std": math.sqrt(3 / 11),
        "sparsity": 0.0,
        "count": 12.0,
        "nan": 0.0,
        "inf": 0.0,
    }
    want = [(2, good), (4, {"count": 12.0, **bad}), (6, good)]
    for rows in (rows_with(one, "fmstats/train/"), rows_with(other, "fmstats/")):
        assert [step for step, _ in rows] == [step for step, _ in want]
        for (_, numbers), (_, wanted) in zip(rows, want, strict=True):
            assert numbers == pytest.approx(wanted, rel=1e-12)
