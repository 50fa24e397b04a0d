"""Log statistics of feature maps during training, as a callback of transformers' Trainer.

The Trainer calls its reporters (TensorBoard, W&B, MLflow and others) before the callbacks that it
is given, and it tells no callback of its other ones. So numbers that a callback adds to the logs
come too late, unless it stands before the reporters: `add_to` puts it there.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch.nn as nn

import fmstats
from fmstats.errors import needs
from fmstats.integrations.asked import check_options
from fmstats.integrations.intervals import Intervals, KeepsIntervals

with needs("fmstats.integrations.transformers", "transformers", "'fmstats[transformers]'"):
    from transformers import PrinterCallback, ProgressCallback, TrainerCallback


class FeatureMapStatsCallback(KeepsIntervals, TrainerCallback):
    """Adds the statistics of each interval to the Trainer's logs, and those of each evaluation.

    What is logged is of the interval alone, so that a change is seen at once instead of in the
    mean of all training so far; `profile` has all intervals together. An interval ends, and is
    logged once, at each optimizer step that is a multiple of `log_every_n_steps` and at the last
    step of training: not at step 0, nor at the end of an epoch or at an evaluation. The callback
    for Lightning has the same rule. Only at these steps the device is read, once, and ranks are
    merged, if there are several. Batches after the last step are in `profile` alone.

    `callback.add_to(trainer)` makes all reporters see the numbers. Given as `callbacks=[...]` it is
    called after them: the numbers are then in `state.log_history`, and seen by callbacks that
    follow in the list.

    The Trainer reports no exception to callbacks. Where training may fail, write `with callback:`
    around `trainer.train()`, or call `close()`; training again closes what was left open, too.
    Checkpoints hold nothing: after a resume, intervals begin anew.

    Args:
        stats: what to log; see `Profile.scalars`.
        every: measure the first of every `every` batches.
        log_every_n_steps: optimizer steps of an interval, after which the Trainer then logs, too;
            None: `logging_steps` of the Trainer, without the log of `logging_first_step`. With
            `logging_strategy="epoch"` an interval is then an epoch, with "no" all of training.
        evaluation: add to the logs of evaluations, too.
        prefix: what keys begin with: `fmstats/layer1.mean`, `eval_fmstats/layer1.mean`.
        save: a file for `profile`, written when training ends.
        history: a folder for the profile of each interval: see `fmstats.History`.
        stop_on_nonfinite: end training after the batch in which a layer has its first NaN or
            infinity: `on_nonfinite` of `fmstats.track` tells when that is known. Of several ranks
            all end together, when the interval does. -inf counts, too: `exclude=` a layer that
            masks with it.
        **options: of `fmstats.track`, but neither `when` nor `budget`.

    Attributes:
        last: the profile of the last interval, of all ranks; None before one has ended.
        profile: that of all intervals together.
        evaluation_profile: that of all evaluations; None without them.

    Raises:
        FmstatsError: an unknown statistic or option, and when training begins as `fmstats.track`.
    """

    def __init__(
        self,
        *,
        stats: str | Iterable[str] | None = None,
        every: int = 1,
        log_every_n_steps: int | None = None,
        evaluation: bool = False,
        prefix: str = "fmstats/",
        save: str | Path | None = None,
        history: str | Path | None = None,
        stop_on_nonfinite: bool = False,
        **options: Any,
    ) -> None:
        self._stats = check_options(every, log_every_n_steps, stats, options)
        self._every, self._length = every, log_every_n_steps
        self._prefix, self._options = prefix, options
        self._save = None if save is None else Path(save)
        self._history = history
        self._wants_evaluation, self.stop_on_nonfinite = evaluation, stop_on_nonfinite
        self._before_reporters = False
        self._due = False  # an interval ends with the Trainer's next log
        self._added: set[str] = set()
        self._evaluation: Intervals | None = None

    def add_to(self, trainer: Any) -> None:
        """Have a Trainer call this before its reporters.

        The progress bar, which would print all numbers of all layers, does not see them, nor are
        they in the metrics that `evaluate` and `train` return.
        """
        callbacks = trainer.callback_handler.callbacks
        others = [callback for callback in callbacks if callback is not self]
        printing = (isinstance(o, PrinterCallback | ProgressCallback) for o in others)
        first = next((place for place, prints in enumerate(printing) if prints), len(others))
        callbacks[:] = [self, *others[:first], _TakeBack(self._added), *others[first:]]
        self._before_reporters = True

    @property
    def evaluation_profile(self) -> fmstats.Profile | None:
        """Return the profile of all evaluations; None without them."""
        return None if self._evaluation is None else self._evaluation.profile

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin to track."""
        model: nn.Module = kwargs["model"]
        if args.report_to and not self._before_reporters:
            warnings.warn(
                f"the Trainer calls {', '.join(args.report_to)} before FeatureMapStatsCallback, so "
                "no statistics are seen there: use callback.add_to(trainer) instead of callbacks=",
                stacklevel=2,
            )
        self._make_folder()
        self.close()
        step = state.global_step
        self._train = Intervals(
            model,
            every=self._every,
            step=step,
            stop_on_nonfinite=self.stop_on_nonfinite,
            history=self._history,
            **self._options,
        )
        self._has_warned = False
        if self._wants_evaluation:
            self._evaluation = Intervals(
                model, every=self._every, step=step, when="eval", **self._options
            )
            self._evaluation.begin(step)  # no event says that an evaluation begins

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        """Measure from here on."""
        self._due = False
        if self._train is not None:
            self._train.begin()

    def on_substep_end(self, *_: Any, **__: Any) -> None:
        """End one of several accumulated batches, and begin the next."""
        if self._train is not None:
            self._train.end()
            self._train.begin()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
        """Measure up to here; have the Trainer log at the end of an interval."""
        if self._train is not None:
            self._train.end()
            length = self._length
            if length is None:
                length = state.logging_steps if args.logging_strategy == "steps" else 0
            self._due = self._train.reaches(state.global_step, length)
            if self._due and self._length is not None:
                control.should_log = True
            if self._must_stop():
                control.should_training_stop = True
        return control

    def on_epoch_end(self, args: Any, *_: Any, **__: Any) -> None:
        """End an interval where the Trainer logs epochs, and no length was asked for."""
        self._due = self._length is None and args.logging_strategy == "epoch"

    def on_prediction_step(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        """End a batch of an evaluation, and begin the next."""
        if self._evaluation is not None:
            self._evaluation.end()
            self._evaluation.begin(state.global_step)

    def on_log(
        self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> Any:
        """Add numbers to the logs of the Trainer, in which `_runtime` keys show what has ended."""
        if logs is None or self._train is None or not self._train.is_open:
            return control
        ended = next((k.removesuffix("_runtime") for k in logs if k.endswith("_runtime")), None)
        step, profile, prefix = state.global_step, None, self._prefix
        row = state.log_history[-1]  # a copy of the logs, made before any callback changed them
        if "loss" in logs:
            if self._due:
                profile, self._due = self._train.flush(step), False
        elif ended == "train" and "total_flos" in row:  # not an evaluation of that name
            profile = self._train.finish(step)
        elif ended is not None and self._evaluation is not None and not self._evaluation.is_empty:
            profile, prefix = self._evaluation.flush(step), f"{ended}_{prefix}"
        if profile is not None:
            numbers = profile.scalars(self._stats, prefix)
            logs.update(numbers)
            self._added.update(numbers)
            row.update(numbers)
        if "loss" in logs and self._must_stop():
            control.should_training_stop = True
        return control

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the file and remove all hooks."""
        self.close()
        self._write(state.is_world_process_zero)

    def close(self) -> None:
        """Remove all hooks. May be called twice."""
        self._close_all((self._train, self._evaluation))

    def __enter__(self) -> FeatureMapStatsCallback:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _TakeBack(TrainerCallback):
    """Removes from the logs what was added to them."""

    def __init__(self, added: set[str]) -> None:
        self._added = added

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for key in self._added:
            kwargs["logs"].pop(key, None)
        self._added.clear()
