"""The Trainer's callback: every batch in one interval, in the logs of a real Trainer."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from tolerances import ROUNDING, assert_equal_states

import fmstats

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

from fmstats.integrations.transformers import FeatureMapStatsCallback

pytestmark = pytest.mark.filterwarnings("ignore:.pin_memory. argument is set as true")

ROWS = (4, 3, 2, 5, 4, 3, 1)  # of each batch: losing one, or counting one twice, shows


@pytest.fixture(autouse=True)
def _one_thread():
    """Threads that wait for each other are most of the time of so small a model."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def samples(seed=0, count=22):
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            "input_ids": torch.randint(1, 30, (6,), generator=generator),
            "labels": torch.randint(0, 2, (), generator=generator),
        }
        for _ in range(count)
    ]


def loader(data, rows=ROWS):
    numbers = iter(range(len(data)))
    cut = [[next(numbers) for _ in range(count)] for count in rows]
    return torch.utils.data.DataLoader(data, batch_sampler=cut)


def batches(seed=0, rows=ROWS):
    return list(loader(samples(seed, sum(rows)), rows))


def network():
    torch.manual_seed(3)
    return BertForSequenceClassification(
        BertConfig(
            vocab_size=30,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=24,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
    ).double()


class Frozen(Trainer):
    """Trains on batches in their order, without learning anything."""

    def __init__(self, folder, held_out=None, **options):
        arguments = {
            **{"learning_rate": 0.0, "num_train_epochs": 1, "report_to": "none"},
            **{"logging_steps": 3, "save_strategy": "no", "use_cpu": True, "disable_tqdm": True},
        }
        model, callbacks = options.pop("model", None) or network(), options.pop("callbacks", None)
        super().__init__(
            model,
            TrainingArguments(str(folder), **{**arguments, **options}),
            train_dataset=samples(),
            eval_dataset=held_out and samples(9, sum(held_out)),
            callbacks=callbacks,
        )
        self.held_out = held_out

    def get_train_dataloader(self):
        return loader(self.train_dataset)

    def get_eval_dataloader(self, eval_dataset=None):
        return loader(self.eval_dataset, self.held_out)


def plain(data, train=True, **options):
    """What `fmstats.track` sees of the model that learns nothing."""
    model = network().train(train)
    with fmstats.track(model, **options) as tracker:
        for batch in data:
            model(**batch)
    return tracker.stats()


def assert_same(got, want):
    assert list(got) == list(want)
    for name in want:
        assert_equal_states(got[name].state, want[name].state, ROUNDING)
        assert got.info[name].calls == want.info[name].calls


def hooks_of(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def logged(trainer, key):
    """The steps at which a key was logged, and its numbers."""
    return {row["step"]: row[key] for row in trainer.state.log_history if key in row}


def test_intervals_neither_overlap_nor_lose_batches(tmp_path):
    callback = FeatureMapStatsCallback(stats="mean")
    trainer, data = Frozen(tmp_path), batches()
    callback.add_to(trainer)
    trainer.train()
    found = logged(trainer, "fmstats/classifier.mean")
    assert list(found) == [3, 6, 7]
    for step, begin in zip(found, (0, 3, 6), strict=True):
        want = plain(data[begin : begin + 3]).scalars("mean")["classifier.mean"]
        assert math.isclose(found[step], want, rel_tol=1e-12)
    assert_same(callback.last, plain(data[6:]))
    assert_same(callback.profile, plain(data))
    assert callback.profile.metadata["steps"] == [1, 7]
    assert hooks_of(trainer.model) == 0


def test_the_trainer_logs_when_an_interval_ends(tmp_path):
    callback = FeatureMapStatsCallback(stats="mean", log_every_n_steps=2)
    trainer = Frozen(tmp_path, logging_steps=3)
    callback.add_to(trainer)
    trainer.train()
    assert list(logged(trainer, "fmstats/classifier.mean")) == [2, 4, 6, 7]
    assert list(logged(trainer, "loss")) == [2, 3, 4, 6]


@pytest.mark.filterwarnings("ignore:.gradient_checkpointing_enable. is deprecated")
@pytest.mark.parametrize("reentrant", [True, False])
def test_accumulation_and_checkpointing_count_each_batch_once(tmp_path, reentrant):
    callback = FeatureMapStatsCallback()
    trainer, data = Frozen(tmp_path, gradient_accumulation_steps=2, logging_steps=2), batches()
    trainer.model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    again = []
    first = trainer.model.bert.encoder.layer[0].attention.self.query
    first.register_forward_hook(lambda *_: again.append(1))
    callback.add_to(trainer)
    trainer.train()
    assert len(again) == 2 * len(data)  # so it was computed again
    assert list(logged(trainer, "fmstats/classifier.mean")) == [2, 4]
    assert_same(callback.last, plain(data[4:]))
    assert_same(callback.profile, plain(data))


def test_sampled_batches(tmp_path):
    callback = FeatureMapStatsCallback(every=3)
    trainer, data = Frozen(tmp_path, gradient_accumulation_steps=2), batches()
    callback.add_to(trainer)
    trainer.train()
    assert_same(callback.profile, plain([data[0], data[3], data[6]]))


def test_evaluations_are_apart(tmp_path):
    held_out = batches(9, (2, 6))
    callback = FeatureMapStatsCallback(evaluation=True, stats="mean")
    trainer = Frozen(tmp_path, (2, 6), eval_strategy="steps", eval_steps=4)
    callback.add_to(trainer)
    trainer.train()
    want = plain(held_out, train=False)
    found = logged(trainer, "eval_fmstats/classifier.mean")
    assert list(found) == [4, 7]
    number = want.scalars("mean")["classifier.mean"]
    assert all(math.isclose(value, number, rel_tol=1e-12) for value in found.values())
    assert_same(callback.evaluation_profile, plain([*held_out, *held_out], train=False))
    assert_same(callback.profile, plain(batches()))
    assert hooks_of(trainer.model) == 0
    trainer.evaluate()
    assert callback.evaluation_profile["classifier"].count[0] == 16


def test_no_evaluation_unless_asked_for(tmp_path):
    callback = FeatureMapStatsCallback()
    trainer = Frozen(tmp_path, (2, 6), eval_strategy="steps", eval_steps=4)
    callback.add_to(trainer)
    trainer.train()
    assert_same(callback.profile, plain(batches()))
    assert callback.evaluation_profile is None


def events_of(folder):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (path,) = Path(folder).rglob("events.out.*")
    events = EventAccumulator(str(path))
    events.Reload()
    return {
        tag: {event.step: event.value for event in events.Scalars(tag)}
        for tag in events.Tags()["scalars"]
    }


def test_tensorboard_sees_it_and_the_console_does_not(tmp_path, capsys):
    pytest.importorskip("tensorboard")
    callback = FeatureMapStatsCallback(stats="std", include="classifier", evaluation=True)
    trainer = Frozen(tmp_path, (2,), report_to="tensorboard", eval_strategy="steps", eval_steps=4)
    callback.add_to(trainer)
    callback.add_to(trainer)  # no matter how often
    done = trainer.train()
    seen = events_of(tmp_path)
    want = logged(trainer, "fmstats/classifier.std")
    got = seen["train/fmstats/classifier.std"]
    assert list(got) == list(want) == [3, 6, 7]
    assert all(math.isclose(got[step], want[step], rel_tol=1e-6) for step in want)
    assert list(seen["eval/fmstats/classifier.std"]) == [4, 7]
    assert "fmstats" not in capsys.readouterr().out
    assert not any("fmstats" in key for key in (*done.metrics, *trainer.evaluate()))


def test_reporters_before_it_are_warned_of(tmp_path):
    """As `callbacks=`, it is called after the reporters that `report_to` names."""
    pytest.importorskip("tensorboard")
    callback = FeatureMapStatsCallback(stats="std", include="classifier")
    trainer = Frozen(tmp_path, report_to="tensorboard", callbacks=[callback])
    with pytest.warns(UserWarning, match=r"calls tensorboard before .* callback.add_to\(trainer\)"):
        trainer.train()
    assert not any("fmstats" in tag for tag in events_of(tmp_path))
    assert list(logged(trainer, "fmstats/classifier.std")) == [3, 6, 7]


def test_reporters_after_it_in_the_list_see_it(tmp_path):
    pytest.importorskip("tensorboard")
    from transformers.integrations import TensorBoardCallback

    callbacks = [FeatureMapStatsCallback(stats="std"), TensorBoardCallback()]
    Frozen(tmp_path, callbacks=callbacks).train()
    assert list(events_of(tmp_path)["train/fmstats/classifier.std"]) == [3, 6, 7]


class Fails(BertForSequenceClassification):
    def forward(self, *args, **kwargs):
        self.calls = getattr(self, "calls", 0) + 1
        if self.calls == 5:
            raise RuntimeError("the batch is bad")
        return super().forward(*args, **kwargs)


def test_an_exception(tmp_path):
    callback = FeatureMapStatsCallback()
    model = Fails(network().config).double()
    trainer = Frozen(tmp_path, model=model)
    callback.add_to(trainer)
    with pytest.raises(RuntimeError, match="the batch is bad"), callback:
        trainer.train()
    assert hooks_of(model) == 0
    assert callback.profile["classifier"].count[0] == sum(ROWS[:3])


def test_training_again_leaves_no_hooks_behind(tmp_path):
    callback = FeatureMapStatsCallback(evaluation=True)
    model = Fails(network().config).double()
    trainer = Frozen(tmp_path, model=model)
    callback.add_to(trainer)
    with pytest.raises(RuntimeError, match="the batch is bad"):
        trainer.train()
    assert hooks_of(model) > 0  # the Trainer told nobody
    trainer.train()
    assert hooks_of(model) == 0
    assert callback.profile["classifier"].count[0] == sum(ROWS)


def test_resuming(tmp_path):
    """Intervals begin anew at the checkpoint, and end where those of an unbroken run do."""
    data = batches()
    trainer = Frozen(tmp_path, save_strategy="steps", save_steps=4, logging_steps=3)
    FeatureMapStatsCallback(stats="mean").add_to(trainer)
    trainer.train()
    path = tmp_path / "checkpoint-4"
    history = json.loads((path / "trainer_state.json").read_text())["log_history"]
    assert [row["step"] for row in history if "fmstats/classifier.mean" in row] == [3]
    callback = FeatureMapStatsCallback(stats="mean", log_every_n_steps=3)
    resumed = Frozen(tmp_path, save_strategy="no", logging_steps=3)
    callback.add_to(resumed)
    resumed.train(resume_from_checkpoint=str(path))
    assert list(logged(resumed, "fmstats/classifier.mean")) == [3, 6, 7]
    assert_same(callback.profile, plain(data[4:]))
    assert callback.profile.metadata["steps"] == [5, 7]


def test_the_file_is_the_profile(tmp_path):
    path = tmp_path / "new" / "run.fmstats"
    callback = FeatureMapStatsCallback(save=path, include="classifier")
    trainer = Frozen(tmp_path)
    callback.add_to(trainer)
    trainer.train()
    assert_same(fmstats.load(path), plain(batches(), include="classifier"))


def test_what_is_refused_at_once():
    with pytest.raises(fmstats.FmstatsError, match="when= is not for a training loop"):
        FeatureMapStatsCallback(when="train")
    with pytest.raises(fmstats.FmstatsError, match="unknown statistic 'average'"):
        FeatureMapStatsCallback(stats="average")


def padded(seed=0, rows=ROWS):
    """The batches of `batches`, of which sample i has its first (i mod 6) + 1 tokens alone."""
    data = samples(seed, sum(rows))
    for i, sample in enumerate(data):
        sample["attention_mask"] = (torch.arange(6) <= i % 6).long()
    return data


class Padded(Frozen):
    def get_train_dataloader(self):
        return loader(padded())


@pytest.mark.parametrize("options", [{}, {"bf16": True}])
def test_padding_does_not_count(tmp_path, options):
    callback = FeatureMapStatsCallback(mask="auto")
    trainer, data = Padded(tmp_path, **options), padded()
    callback.add_to(trainer)
    trainer.train()
    profile, tokens = callback.profile, sum(int(s["attention_mask"].sum()) for s in data)
    assert tokens < 6 * len(data)
    for row in ("embeddings.word_embeddings", "encoder.layer.1.output.dense", "embeddings/add"):
        assert profile[f"bert.{row}"].count[0] == tokens
    assert profile["classifier"].count[0] == len(data)
    assert "bert.embeddings.position_embeddings" not in profile
    if not options:
        assert_same(profile, plain(loader(data), mask="auto"))


def test_groups_of_labels(tmp_path):
    known = {"mask": "auto", "groups": "labels", "group_names": ["no", "yes"]}
    callback = FeatureMapStatsCallback(**known, evaluation=True)
    trainer, data = Padded(tmp_path, (2, 6), eval_strategy="epoch"), padded()
    callback.add_to(trainer)
    trainer.train()
    want = plain(loader(data), **known)
    for name in ("no", "yes"):
        got = callback.profile.groups[name]
        assert list(got) == list(want.groups[name])
        for row, stats in want.groups[name].items():
            assert_equal_states(got[row].state, stats.state, ROUNDING)
    count = sum(int(sample["labels"]) for sample in data)
    assert callback.profile.groups["yes"]["classifier"].count[0] == count
    assert 0 < callback.last.groups["yes"]["classifier"].count[0] < count
    assert list(callback.evaluation_profile.groups) == ["no", "yes"]
