"""Log statistics of feature maps during training, as a Lightning callback.

For `lightning` and for `pytorch_lightning`, whose callbacks are alike.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.nn as nn

import fmstats
from fmstats.errors import list_closest, needs
from fmstats.integrations.asked import check_options
from fmstats.integrations.intervals import Intervals, KeepsIntervals

if TYPE_CHECKING:
    from lightning.pytorch import Callback, LightningModule, Trainer
else:

    def _import_callback() -> type:
        """Import the base class from the package that the program has imported, if any."""
        packages = ("lightning.pytorch", "pytorch_lightning")
        first, second = sorted(packages, key=lambda name: name not in sys.modules)
        asked, either = "fmstats.integrations.lightning", "lightning or pytorch_lightning"
        with needs(asked, either, "'fmstats[lightning]'"):
            with contextlib.suppress(ModuleNotFoundError):
                return importlib.import_module(first).Callback
            return importlib.import_module(second).Callback

    Callback = _import_callback()

_PREFIX = "fmstats/"


class FeatureMapStats(KeepsIntervals, Callback):
    """Logs the statistics of each interval of training steps, and of each validation.

    What is logged is of the interval alone, so that a change is seen at once instead of in the
    mean of all training so far; `profile` has all intervals together. An interval ends, and is
    logged once, at each optimizer step that is a multiple of `log_every_n_steps` and at the last
    step of training: not at step 0, nor at the end of an epoch or at a validation. The callback for
    transformers has the same rule. Only at these steps the device is read, once, and ranks are
    merged, if there are several. Batches after the last step are in `profile` alone; those of the
    sanity check are not counted.

    Several of them may watch parts of a model, each with a `module` and a `prefix` of its own.

    A checkpoint holds what was seen, the begun interval included: a resumed run logs what an
    unbroken one would have.

    Args:
        module: the name of the submodule to track; None: the LightningModule. Layers are called as
            within it.
        stats: what to log; see `Profile.scalars`.
        every: measure the first of every `every` batches.
        log_every_n_steps: optimizer steps of an interval; None: those of the Trainer, where 0 makes
            all of training one interval.
        validation: log validation epochs, too.
        prefix: what keys begin with: `fmstats/train/layer1.mean`, `fmstats/val/layer1.mean`.
        save: a file for `profile`, written when training ends, also by an exception.
        history: a folder for the profile of each interval: see `fmstats.History`.
        stop_on_nonfinite: end training after the batch in which a layer has its first NaN or
            infinity: `on_nonfinite` of `fmstats.track` tells when that is known. Of several ranks
            all end together, when the interval does. -inf counts, too: `exclude=` a layer that
            masks with it.
        **options: of `fmstats.track`, but neither `when` nor `budget`; `per_call`, `mask` and
            `groups` need `module`.

    Attributes:
        last: the profile of the last interval, of all ranks; None before one has ended.
        profile: that of all intervals together. After an exception the interval that it broke off
            is in it, of this rank alone.
        validation_profile: that of all validations; None without them.

    Raises:
        FmstatsError: an unknown statistic or option, and when training begins as `fmstats.track`.
    """

    def __init__(
        self,
        *,
        module: str | None = None,
        stats: str | Iterable[str] | None = None,
        every: int = 1,
        log_every_n_steps: int | None = None,
        validation: bool = False,
        prefix: str = _PREFIX,
        save: str | Path | None = None,
        history: str | Path | None = None,
        stop_on_nonfinite: bool = False,
        **options: Any,
    ) -> None:
        chosen = check_options(every, log_every_n_steps, stats, options)
        of_passes = (name for name in ("per_call", "mask", "groups") if options.get(name))
        asked = next(of_passes, None)
        if asked is not None and module is None:
            raise fmstats.FmstatsError(
                f"{asked}= needs module=: Lightning does not call the LightningModule itself, so "
                "its forward passes cannot be told apart; name the submodule that training_step "
                "calls"
            )
        self._module, self._stats, self._every = module, chosen, every
        self._length, self._prefix, self._options = log_every_n_steps, prefix, options
        self._save = None if save is None else Path(save)
        self._history = history
        self._wants_validation, self.stop_on_nonfinite = validation, stop_on_nonfinite
        self._validation: Intervals | None = None
        self._restored: Mapping[str, Any] = {}

    @property
    def state_key(self) -> str:
        """Return the place of its state in a checkpoint; several callbacks need different ones."""
        if self._module is None and self._prefix == _PREFIX:
            return super().state_key
        key: str = self._generate_state_key(module=self._module, prefix=self._prefix)
        return key

    @property
    def validation_profile(self) -> fmstats.Profile | None:
        """Return the profile of all validations; None without them."""
        return None if self._validation is None else self._validation.profile

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin to track; the sanity check is over, and a checkpoint is loaded."""
        self._make_folder()
        self._close()
        model = _submodule(pl_module, self._module)
        step = trainer.global_step
        self._train = Intervals(
            model,
            every=self._every,
            step=step,
            stop_on_nonfinite=self.stop_on_nonfinite,
            history=self._history,
            **self._options,
        )
        self._has_warned = False
        if self._wants_validation:
            self._validation = Intervals(model, every=self._every, step=step, **self._options)
        for name, intervals in self._named():
            if name in self._restored:
                intervals.restore(self._restored[name])
        self._restored = {}
        self._log_if_due(trainer)  # a checkpoint may have been made just before its step was logged

    def on_train_batch_start(self, *_: Any) -> None:
        """Measure from here on."""
        if self._train is not None:
            self._train.begin()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Measure up to here; log at the end of an interval."""
        if self._train is None:
            return
        self._train.end()
        self._log_if_due(trainer)
        if self._must_stop():
            trainer.should_stop = True

    def on_validation_batch_start(self, trainer: Trainer, *_: Any) -> None:
        """Measure from here on, if validation was asked for."""
        if self._validation is not None:
            self._validation.begin(trainer.global_step)

    def on_validation_batch_end(self, trainer: Trainer, *_: Any) -> None:
        """Measure up to here."""
        if self._validation is not None:
            self._validation.end()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log a validation."""
        # Also if this rank had no batch: others wait for it.
        if self._validation is not None and self._validation.is_open:
            self._log(trainer, self._validation.flush(trainer.global_step), "val/")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the interval that was begun, and write the file."""
        if self._train is not None and self._train.is_open:
            self._log(trainer, self._train.finish(trainer.global_step), "train/")
        self._write(trainer.is_global_zero)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Remove all hooks."""
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Keep what was seen, of this rank alone: others may have stopped elsewhere."""
        # A device that failed cannot be read, and the first error is the one to be seen.
        with contextlib.suppress(RuntimeError, fmstats.FmstatsError):
            if self._train is not None and self._train.is_open:
                self._train.finish(trainer.global_step, ranks=False)
                self._write(trainer.is_global_zero)
        self._close()

    def state_dict(self) -> dict[str, Any]:
        """Return all statistics so far; called on all ranks, as checkpoints are."""
        return {name: intervals.state() for name, intervals in self._named()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume with this state when training begins."""
        self._restored = state_dict

    def _named(self) -> list[tuple[str, Intervals]]:
        both = (("train", self._train), ("validation", self._validation))
        return [(name, intervals) for name, intervals in both if intervals is not None]

    def _log_if_due(self, trainer: Trainer) -> None:
        length, step = self._length, trainer.global_step
        if length is None:
            length = trainer.log_every_n_steps  # type: ignore[attr-defined]  # set from outside
        if self._train is not None and self._train.reaches(step, length):
            self._log(trainer, self._train.flush(step), "train/")

    def _log(self, trainer: Trainer, profile: fmstats.Profile | None, kind: str) -> None:
        if profile is None:
            return
        numbers = profile.scalars(self._stats, self._prefix + kind)
        for logger in trainer.loggers if numbers else ():
            logger.log_metrics(numbers, step=trainer.global_step)

    def _close(self) -> None:
        self._close_all((self._train, self._validation))


def _submodule(model: nn.Module, name: str | None) -> nn.Module:
    if name is None:
        return model
    try:
        return model.get_submodule(name)
    except AttributeError as error:
        names = [known for known, _ in model.named_modules() if known]
        raise fmstats.FmstatsError(
            f"module={name!r}: {type(model).__name__} has no such submodule; "
            f"closest: {list_closest(name, names, count=3)}"
        ) from error
