"""Do one process's part of a run, from the beginning or from a checkpoint to the end."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from fmstats.errors import FmstatsError
from fmstats.profiles.profile import Profile
from fmstats.runs.account import Account, format_now, join, list_untracked
from fmstats.runs.batch_log import BatchLog
from fmstats.runs.batch_runner import BatchRunner
from fmstats.runs.checkpoints import Checkpoint, Progress
from fmstats.runs.cost import Cost
from fmstats.runs.counting import Counting, add_samples
from fmstats.runs.progress import Advance
from fmstats.runs.reading import OnBadSample, Reading, Share
from fmstats.runs.stopping import Interrupts, RunInterrupted
from fmstats.sources.batches import ModelInput
from fmstats.sources.data import DataSource
from fmstats.sources.stored import Skipped
from fmstats.tracking.tracker import Tracker


class Part:
    """Reads the batches of a share, runs them, keeps the account and writes the checkpoint.

    Args:
        batches: the data.
        limit: of samples, over all shares.
        batch_dim: along which they run, where the caller says so.
        share: this process's, from the checkpoint's place on.
        on_bad_sample: "raise" or "skip".
        runner: runs batches under `tracker`.
        cost: times some of them.
        counting: counts samples.
        checkpoint: where to write to, or None.
        metadata: what else belongs in the metadata.
    """

    def __init__(
        self,
        batches: Iterable[object],
        limit: int | None,
        batch_dim: int | None,
        share: Share,
        on_bad_sample: OnBadSample,
        *,
        tracker: Tracker,
        runner: BatchRunner,
        cost: Cost,
        counting: Counting,
        checkpoint: Checkpoint | None,
        metadata: dict[str, Any],
    ) -> None:
        self._tracker, self._runner, self._cost = tracker, runner, cost
        self._counting = counting
        self._checkpoint, self._metadata = checkpoint, metadata
        self._progress = Progress() if checkpoint is None else checkpoint.progress
        self._on_bad_sample = on_bad_sample
        self._passed_over = Skipped()  # by reading, on the way to the next batch
        is_stored = isinstance(batches, DataSource) and batches.stored is not None
        self._batch_log = None if checkpoint is None or is_stored else BatchLog()
        self._reading = Reading(
            batches,
            limit,
            batch_dim,
            share,
            on_bad_sample,
            self._passed_over,
            self._batch_log,
            None if checkpoint is None or checkpoint.trusted else self._progress.known,
        )
        self._account = Account(format_now())
        self._began = time.perf_counter()

    def run(self, interrupts: Interrupts, advance: Advance) -> Profile:
        """Run all batches of the share.

        Raises:
            FmstatsError: a batch failed and is not skipped; the message says how many ran before.
            RunInterrupted: a signal stopped the process.
        """
        try:
            if self._checkpoint is not None:
                self._save()  # Before any work, so that a file that cannot be written is known.
            for number, inputs in self._reading:
                with interrupts.held():
                    self._run_batch(number, inputs)
                    if self._checkpoint is not None and self._checkpoint.is_due():
                        self._save()
                advance(self._counting.count(inputs), self._cost.share)
            interrupts.stop()
            self._note_passed_over()
            self._note_batch_log()
            self._progress.complete = True
            return self._save()
        except KeyboardInterrupt as error:
            interrupts.stop()
            raise self._interrupted() from error
        except FmstatsError as error:
            interrupts.stop()
            raise self._failed(error) from error.__cause__ or error

    def _run_batch(self, number: int, inputs: ModelInput) -> None:
        try:
            with self._counting.ask_layers(inputs):
                self._runner.run_batch(number, inputs)
        except FmstatsError as error:
            if self._on_bad_sample == "raise" or self._runner.lost:
                raise
            self._account.skipped.add(str(error))
        else:
            self._account.samples = add_samples(self._account.samples, self._counting.count(inputs))
            self._account.batches += 1
        self._note_passed_over()
        self._progress.next_batch = number + 1
        self._progress.passes = self._runner.passes
        self._note_batch_log()
        self._counting.check_limit(inputs)

    def _note_passed_over(self) -> None:
        self._account.skipped.extend(self._passed_over)
        self._passed_over.clear()

    def _save(self) -> Profile:
        """Return the profile so far; write it to the checkpoint, if there is one."""
        result = self._collect()
        if self._checkpoint is not None:
            self._checkpoint.write(result, self._progress)
        return result

    def _note_batch_log(self) -> None:
        if self._batch_log is not None:
            self._progress.known = self._batch_log.seen, self._batch_log.digest
            self._progress.unknown = self._batch_log.unknown

    def _collect(self) -> Profile:
        profile = self._tracker.stats()
        profile.metadata["passes"] += self._runner.idle
        share = self._cost.share
        if "budget_spent" in profile.metadata:  # The tracker times all of its passes itself.
            spent = profile.metadata["budget_spent"]
            share = spent / (1 + spent)
        account = replace(
            self._account,
            ended=format_now(),
            seconds=time.perf_counter() - self._began,
            statistics_share=share,
            coverage=list_untracked(self._tracker.coverage()),
        )
        base = None if self._checkpoint is None else self._checkpoint.base
        if base is not None:
            profile, account = _continue(base, profile, account)
        profile.metadata.update(account.to_metadata(), **self._metadata)
        return profile

    def _interrupted(self) -> RunInterrupted:
        if self._runner.lost:
            return RunInterrupted(None, None)
        path = None if self._checkpoint is None else self._checkpoint.path
        return RunInterrupted(self._save(), path)

    def _failed(self, error: FmstatsError) -> FmstatsError:
        base = None if self._checkpoint is None else self._checkpoint.base
        count = self._account.batches + (0 if base is None else base.metadata["batches"])
        text = f"{count} {'batch was' if count == 1 else 'batches were'} measured before"
        if self._checkpoint is not None and not self._runner.lost:
            self._save()
            text += f", kept in {str(self._checkpoint.path)!r}"
        return FmstatsError(f"{error} ({text})")


def _continue(base: Profile, profile: Profile, account: Account) -> tuple[Profile, Account]:
    """Add the metadata of the run before the checkpoint, whose statistics it restored."""
    account = join([Account.of_metadata(base.metadata), account], parallel=False)
    known = {**base.metadata, **profile.metadata}
    known["backends"] = {**base.metadata["backends"], **profile.metadata["backends"]}
    return profile.with_metadata(known), account
