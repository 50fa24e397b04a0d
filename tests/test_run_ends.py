"""Each way in which a run ends keeps what it had, whatever signals come meanwhile."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fmstats import storage
from fmstats.errors import FmstatsError
from fmstats.profiles.profile import Profile
from fmstats.runs import RunInterrupted, profile
from fmstats.runs.batch_log import BatchLog
from fmstats.runs.batch_runner import Placement
from fmstats.runs.reading import Share
from fmstats.runs.run import Run
from fmstats.tracking.options import TrackOptions

BATCHES = [(torch.full((2, 3), float(n)), torch.zeros(2)) for n in range(4)]


class Net(nn.Module):
    """Fails on a batch of fours."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.amax() == 4:
            raise ValueError("four")
        return self.act(x)


def ending(how: Callable[[], object] = lambda: None) -> Iterator[object]:
    yield from BATCHES
    how()


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def fail() -> None:
    raise OSError("gone")


@pytest.fixture(autouse=True)
def _default() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


ENDS: dict[str, tuple[Callable[[], Iterator[object]], type[BaseException] | None, str]] = {
    "whole": (ending, None, ""),
    "interrupted": (lambda: ending(interrupt), RunInterrupted, "interrupted after 8 samples"),
    "data that fail": (
        lambda: ending(fail),
        FmstatsError,
        r"gone .*\(4 batches were measured before, kept in '",
    ),
    "a batch that fails": (
        lambda: iter([*BATCHES, (torch.full((2, 3), 4.0), torch.zeros(2))]),
        FmstatsError,
        r"four .*\(4 batches were measured before, kept in '",
    ),
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("signals", [0, 1, 3])
def test_no_signal_disturbs_the_last_write(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, end: str, signals: int
) -> None:
    give, raised, told = ENDS[end]
    path, save, written = tmp_path / "run.fmstats", storage.save, []

    def saving(made: Profile, to: Path) -> None:
        written.append(made.metadata["batches"])
        if len(written) == 2:
            for _ in range(signals):
                interrupt()
        save(made, to)

    monkeypatch.setattr(storage, "save", saving)
    if raised is None:
        assert profile(Net(), give(), checkpoint=path).metadata["batches"] == 4
    else:
        with pytest.raises(raised, match=told):
            profile(Net(), give(), checkpoint=path)
    assert written == [0, 4]
    kept = storage.load(path).metadata
    assert (kept["samples"], kept["checkpoint"]["complete"]) == (8, raised is None)


@pytest.mark.parametrize("before", [0, 1, 3])
@pytest.mark.parametrize("fold", [0, 1, 2])
def test_batches_folded_before_are_those_of_all_lives(
    tmp_path: Path, before: int, fold: int
) -> None:
    bad = (torch.full((2, 3), 4.0), torch.zeros(2))

    def stopped() -> Iterator[object]:
        yield from BATCHES[:before]
        raise KeyboardInterrupt

    def failing() -> Iterator[object]:
        yield from [*BATCHES[:before], *BATCHES[:fold], bad]

    path, count = tmp_path / "run.fmstats", before + fold
    were = "batch was" if count == 1 else "batches were"
    told = rf"batch {count + 1}\b.*\({count} {were} measured before"
    with pytest.raises(FmstatsError, match=told + r"\)$"):
        profile(Net(), failing())
    with pytest.raises(RunInterrupted):
        profile(Net(), stopped(), checkpoint=path)
    with pytest.raises(FmstatsError, match=told + ", kept in '.*'"):
        profile(Net(), failing(), checkpoint=path)


@pytest.mark.parametrize("place", [0, 2, 4])
def test_what_cannot_be_read_is_of_the_data_as_well(tmp_path: Path, place: int) -> None:
    """At the end of a run, too: the same data are the same once more."""
    path, data = tmp_path / "run.fmstats", [*BATCHES[:place], "text", *BATCHES[place:]]

    def run(batches: list[object]) -> dict[str, object]:
        return profile(Net(), batches, checkpoint=path, on_bad_sample="skip").metadata

    first = run(data)
    assert (first["samples"], first["skipped_count"]) == (8, 1)
    assert storage.load(path).metadata["checkpoint"]["known"][0] == 5
    assert run(data)["resumed"] == 8
    with pytest.raises(FmstatsError, match="batches"):
        run([batch for batch in data if batch != "text"])


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("stored", [False, True])
def test_batches_are_logged_only_where_a_checkpoint_needs_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kept: bool, stored: bool
) -> None:
    """A log reads every value; stored samples are identified without one."""
    made: list[BatchLog] = []

    class Log(BatchLog):
        def __init__(self) -> None:
            super().__init__()
            made.append(self)

    monkeypatch.setattr("fmstats.runs.rank_run.BatchLog", Log)
    np.save(tmp_path / "x.npy", np.ones((4, 3), np.float32))
    path = tmp_path / "run.fmstats"
    profile(Net(), tmp_path / "x.npy" if stored else BATCHES, checkpoint=path if kept else None)
    assert len(made) == (kept and not stored)
    if kept:
        known = storage.load(path).metadata["checkpoint"]["known"]
        assert known == (None if stored else [4, made[0].digest])


def run_of(batches: object, ranks: int) -> Run:
    share = Share(0, ranks)
    place = Placement(None, None, False)
    return Run(Net(), batches, None, None, share, "raise", TrackOptions(), place, False)


def test_several_processes_need_the_same_order() -> None:
    data = torch.utils.data.TensorDataset(torch.ones(4, 3))
    shuffled = torch.utils.data.DataLoader(data, batch_size=2, shuffle=True)
    assert run_of(shuffled, 1).go_on(None, False).metadata["batches"] == 2
    with pytest.raises(FmstatsError, match=r"^group= needs the same batches in the same order"):
        run_of(shuffled, 2).go_on(None, False)
    plain = torch.utils.data.DataLoader(data, batch_size=2)
    assert run_of(plain, 2).go_on(None, False).metadata["batches"] == 1
