"""Execute one run in one process, and resume it from a checkpoint."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch

from fmstats.models.copies.settings import random_state_kept
from fmstats.models.modes import in_mode
from fmstats.models.wrappers import has_compiled_parts
from fmstats.profiles.profile import Profile
from fmstats.runs.batch_log import BatchLog
from fmstats.runs.batch_runner import BatchRunner, Placement
from fmstats.runs.checkpoints import Checkpoint, Progress
from fmstats.runs.cost import Cost
from fmstats.runs.counting import Counting
from fmstats.runs.identity import (
    Identity,
    describe_data,
    describe_model,
    describe_options,
    fingerprint_samples,
)
from fmstats.runs.progress import Advance, show_progress
from fmstats.runs.rank_run import Part
from fmstats.runs.reading import (
    OnBadSample,
    Reading,
    Share,
    refuse_random_order,
)
from fmstats.runs.stopping import Interrupts
from fmstats.sources.data import DataSource
from fmstats.sources.stored import Skipped
from fmstats.tracking.options import TrackOptions
from fmstats.tracking.track import start_tracking
from fmstats.tracking.tracker import Tracker


@dataclass(frozen=True)
class Run:
    """Holds the arguments of `profile`, resolved, and executes the run."""

    model: torch.nn.Module
    batches: Iterable[object]
    limit: int | None
    batch_dim: int | None
    share: Share
    on_bad_sample: OnBadSample
    tracking: TrackOptions
    placement: Placement
    compiled: bool

    @property
    def options(self) -> dict[str, object]:
        """Return all options that change which batches are measured, and what of them."""
        run = {"compile": self.compiled, "limit": self.limit, "batch_dim": self.batch_dim}
        return {**self.tracking.shared(), **vars(self.placement), **run}

    def identify(self) -> Identity:
        """Describe what distinguishes this run from others."""
        refuse_random_order(self.batches, "checkpoint=")
        known = describe_model(self.model)
        known["run"] |= describe_data(self.batches)
        known["run"] |= describe_options(self.options)
        known["run"] |= {"processes": self.share.ranks, "rank": self.share.rank}
        device = "cpu" if self.placement.device is None else self.placement.device.type
        cast = torch.is_autocast_enabled(device)
        known["content"]["autocast"] = str(torch.get_autocast_dtype(device)) if cast else None
        if isinstance(self.batches, DataSource) and self.batches.stored is not None:
            spans = self.batches.stored.spans(self.limit)
            mine = [spans[number] for number in self.share.numbers(len(spans))]
            known["content"]["samples"] = fingerprint_samples(self.batches.stored, mine)
        return known

    def go_on(self, keep: Checkpoint | None, progress: bool) -> Profile:
        """Run from where the checkpoint is, or from the beginning."""
        if self.share.ranks > 1:
            refuse_random_order(self.batches, "group=")
        if keep is not None and keep.base is not None and keep.progress.complete:
            self._confirm(keep)
            return keep.base
        done = Progress() if keep is None else keep.progress
        tracker = start_tracking(self.model, self.tracking)
        if keep is not None and keep.base is not None:
            tracker.restore(keep.base)
        # Reading data and running the model draw random numbers, which training will want.
        kept = random_state_kept()
        with kept, tracker, in_mode(self.model, training=False), Interrupts() as interrupts:
            cost = self._cost(tracker, done.passes)
            runner = BatchRunner(
                self.model,
                torch.compile(self.model) if self.compiled else self.model,
                tracker,
                self.placement,
                cost,
                interrupts,
                passes=done.passes,
                every=self.tracking.every,
            )
            part = Part(
                self.batches,
                self.limit,
                self.batch_dim,
                replace(self.share, first=done.next_batch),
                self.on_bad_sample,
                tracker=tracker,
                runner=runner,
                cost=cost,
                counting=self._counting(),
                checkpoint=keep,
                metadata=self._describe(),
            )
            with self._show(keep, progress) as advance:
                return part.run(interrupts, advance)

    def _confirm(self, keep: Checkpoint) -> None:
        """Read the data of a complete run again, where only the batches identify the data.

        Raises:
            FmstatsError: they are others.
        """
        is_stored = isinstance(self.batches, DataSource) and self.batches.stored is not None
        if not (is_stored or keep.trusted):
            reading = Reading(
                self.batches,
                self.limit,
                self.batch_dim,
                self.share,
                self.on_bad_sample,
                Skipped(),
                BatchLog(),
                keep.progress.known,
                ended=True,
            )
            for _ in reading:
                pass

    @property
    def _hookable(self) -> bool:
        """Return whether hooks may come and go without recompiling what is compiled."""
        return not (self.compiled or has_compiled_parts(self.model))

    def _counting(self) -> Counting:
        return Counting(self.model if self._hookable else None, self.limit)

    def _cost(self, tracker: Tracker, passes: int) -> Cost:
        # Gradients flow after the pass, if at all.
        timed = self._hookable and self.tracking.of != "grad_output"
        return Cost(tracker.hooks if timed else [], self.tracking.every, passes)

    def _describe(self) -> dict[str, Any]:
        options = describe_options({**self.options, "on_bad_sample": self.on_bad_sample})
        known: dict[str, Any] = {"options": options}
        if isinstance(self.batches, DataSource):
            known["data"] = self.batches.description
            if self.batches.inputs is not None:
                known["inputs"] = dict(self.batches.inputs)
        return known

    def _show(self, keep: Checkpoint | None, wanted: bool) -> AbstractContextManager[Advance]:
        base = None if keep is None or keep.base is None else keep.base.metadata
        done = (0, 0) if base is None else (base["samples"] or 0, base["batches"])
        wanted = wanted and self.share.rank == 0
        return show_progress(self.batches, self.limit, wanted, ranks=self.share.ranks, done=done)
