"""Profiles by step: a folder of files that a run may be killed in at any point."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from profile_files import layer_of, profile_of
from torch import nn

import fmstats
from fmstats import FmstatsError, History, Profile
from fmstats.histories import history as module
from fmstats.histories.entries import Interval, list_intervals

Run = Callable[..., tuple[int, str, str]]


def profile(value: float, n: int = 100) -> Profile:
    x = torch.full((n, 2), float(value))
    x[::2] *= -1
    return profile_of({"a": layer_of(x), "b": layer_of(x * 10)}, model="Net")


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "run")


def fill(history: History, count: int, every: int = 10) -> None:
    for i in range(1, count + 1):
        history.append(i * every, profile(i))


def assert_same(a: Profile, b: Profile) -> None:
    assert list(a) == list(b)
    for name in a:
        for field in ("count", "zeros", "min", "max"):
            np.testing.assert_array_equal(getattr(a[name], field), getattr(b[name], field))
        np.testing.assert_allclose(a[name].std, b[name].std, rtol=1e-12)


def test_entries_by_step(history: History) -> None:
    assert (len(history), history.steps, list(history)) == (0, [], [])
    assert not history.path.exists()
    fill(history, 3)
    assert history.steps == [10, 20, 30]
    assert history.intervals == [(1, 10), (11, 20), (21, 30)]
    assert [step for step, _ in history] == [10, 20, 30]
    assert history[20]["a"].max.tolist() == [2.0, 2.0]
    assert history[11]["a"].max.tolist() == [2.0, 2.0]
    with pytest.raises(KeyError):
        history[31]
    assert "3 entries, steps 1 to 30" in repr(history)
    assert History(history.path).steps == [10, 20, 30]  # opened again


def test_all_entries_are_the_whole_run(history: History) -> None:
    fill(history, 5)
    parts = [profile(i) for i in range(1, 6)]
    assert_same(history.whole(), parts[0].merge(*parts[1:]))


@pytest.mark.parametrize("count", [5, 9, 40])
def test_a_history_that_is_full_loses_detail_alone(tmp_path: Path, count: int) -> None:
    history = History(tmp_path / "run", keep=4)
    fill(history, count)
    known = history.intervals
    assert len(known) == 4
    assert known[0].first == 1
    assert known[-1].last == 10 * count
    assert all(a.last + 1 == b.first for a, b in itertools.pairwise(known))
    spans = [interval.steps for interval in known]
    assert max(spans) <= 4 * -(-10 * count // 4)  # old and new steps alike
    assert len(list(history.path.iterdir())) == 4
    parts = [profile(i) for i in range(1, count + 1)]
    assert_same(history.whole(), parts[0].merge(*parts[1:]))


class KilledError(Exception):
    """Stands for the end of the process."""


@pytest.mark.parametrize("after", [0, 1])
def test_a_run_killed_while_it_merges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    """Before the merged file is there, or before those that it holds are gone."""
    history = History(tmp_path / "run", keep=2)
    fill(history, 2)

    def die(*_: object) -> None:
        raise KilledError

    if after == 0:
        saved = module.save
        monkeypatch.setattr(
            module,
            "save",
            lambda p, path: (
                die() if "01-0" in path.name and "30" not in path.name else saved(p, path)
            ),
        )
    else:
        monkeypatch.setattr(module, "remove", die)
    with pytest.raises(KilledError):
        history.append(30, profile(3))
    monkeypatch.undo()
    parts = [profile(i) for i in range(1, 4)]
    assert_same(History(history.path).whole(), parts[0].merge(*parts[1:]))
    history.append(40, profile(4))
    assert len(list(history.path.iterdir())) == 2
    assert_same(history.whole(), parts[0].merge(*parts[1:], profile(4)))


def test_entries_within_another_do_not_count(tmp_path: Path) -> None:
    for name in ((1, 10), (11, 20), (1, 20), (21, 30), (21, 25)):
        (tmp_path / Interval(*name).name).touch()
    (tmp_path / "notes.txt").touch()
    assert list_intervals(tmp_path) == [(1, 20), (21, 30)]


def test_steps_go_forward_and_cut_goes_back(history: History) -> None:
    fill(history, 4)
    with pytest.raises(FmstatsError, match=r"has reached step 40\. To go on .* call cut\(24\)"):
        history.append(25, profile(1))
    assert history.cut(25) == 2
    assert history.steps == [10, 20]
    history.append(25, profile(7))
    assert history.intervals[-1] == (21, 25)
    assert history.cut(100) == 0


@pytest.mark.parametrize(
    ("step", "given", "message"),
    [
        (-1, profile(1), "step=-1: give the number of a step"),
        (1.5, profile(1), "step=1.5: give the number of a step"),
        (99, Profile({}, {}), "step 99: the profile has no layer"),
        (99, profile_of({"a": layer_of(torch.ones(3, 5))}, model="Net"), "channels"),
        (99, "run.fmstats", r"append\(\) takes a Profile, got str"),
    ],
)
def test_refused(history: History, step: object, given: object, message: str) -> None:
    fill(history, 1)
    with pytest.raises(FmstatsError, match=message):
        history.append(step, given)  # type: ignore[arg-type]
    assert history.steps == [10]


def test_a_folder_and_room_for_two(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FmstatsError, match="is a file: a history is a folder"):
        History(tmp_path / "file")
    with pytest.raises(FmstatsError, match="keep=1: give the most entries"):
        History(tmp_path, keep=1)
    with pytest.raises(FmstatsError, match="has no entry"):
        History(tmp_path / "none").whole()


def test_record_takes_what_a_tracker_has_measured(history: History) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    weights = History(history.path.parent / "weights")
    with (
        fmstats.track(model) as tracker,
        fmstats.track_parameters(model, optimizer) as parameters,
    ):
        for step in range(1, 7):
            model(torch.randn(8, 4)).sum().backward()
            optimizer.step()
            if step % 2 == 0:
                history.record(step, tracker)
                weights.record(step, parameters)
    assert [int(part["0"].count[0]) for _, part in history] == [16, 16, 16]
    assert [part.info["0.weight/update"].calls for _, part in weights] == [2, 2, 2]
    assert weights.whole().metadata["steps_measured"] == 6


def test_nothing_is_lost_if_an_entry_is_refused(history: History) -> None:
    model = nn.Sequential(nn.ReLU())
    with fmstats.track(model) as tracker:
        model(torch.ones(3, 2))
        history.record(5, tracker)
        model(torch.ones(3, 2))
        with pytest.raises(FmstatsError, match="has reached step 5"):
            history.record(5, tracker)
        history.record(6, tracker)
    assert int(history[6]["0"].count[0]) == 3


def test_the_first_number_that_is_not_finite(history: History) -> None:
    fill(history, 2)
    assert history.first_nonfinite() is None
    bad = torch.ones(10, 2)
    bad[3, 1] = torch.inf
    history.append(
        30, profile_of({"a": layer_of(torch.ones(10, 2)), "b": layer_of(bad)}, model="Net")
    )
    found = history.first_nonfinite()
    assert found is not None
    assert (found.interval, found.layer, found.step) == ((21, 30), "b", None)


def test_the_step_itself_where_the_tracker_knows_it(history: History) -> None:
    model = nn.Sequential(nn.Identity())
    with fmstats.track(model) as tracker:
        for step in range(1, 11):
            tracker.step = step
            model(torch.full((2, 2), torch.nan if step == 7 else 1.0))
        history.record(10, tracker)
    found = history.first_nonfinite()
    assert found is not None
    assert found.step == 7


def test_rows_and_frames(history: History) -> None:
    pd = pytest.importorskip("pandas", reason="needs pandas")
    fill(history, 2)
    frame = history.to_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert list(frame["step"]) == [10, 10, 20, 20]
    assert list(frame["first_step"]) == [1, 1, 11, 11]
    assert list(frame["layer"]) == ["a", "b"] * 2
    assert list(frame["max"]) == [1, 10, 2, 20]


def test_show_over_time(
    command_line: Run, history: History, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("typer", reason="needs typer")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.chdir(history.path.parent)
    fill(history, 3)
    code, out, err = command_line("show", "run", "--stat", "max")
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "run: 3 entries, steps 1 to 30"
    assert lines[2].split() == [
        "layer",
        "type",
        "max",
        "over",
        "steps",
        "first",
        "last",
        "min",
        "max",
    ]
    assert lines[3].split() == ["a", "Conv2d", "▁▅█", "1", "3", "1", "3"]
    _, text, _ = command_line(
        "show", "run", "--over-time", "--stat", "max", "--layer", "b", "--json"
    )
    row = {"layer": "b", "type": "Conv2d", "values": [10, 20, 30], "first_nonfinite": None}
    assert json.loads(text) == {
        "stat": "max",
        "steps": [10, 20, 30],
        "layers": [row],
    }
    _, text, _ = command_line("show", "run", "--stat", "max", "--layer", "a", "--csv")
    assert text.splitlines()[:2] == ["layer,type,step,max", "a,Conv2d,10,1.0"]
    code, _, err = command_line("show", "run", "--stat", "maxi")
    assert code == 2
    assert "there is no number 'maxi'; closest: max" in err
    code, _, err = command_line("show", "run", "--layer", "z*")
    assert (code, err) == (2, "error: --layer z*: no layer of the history matches\n")
    bad = torch.full((4, 2), torch.nan)
    history.append(40, profile_of({"a": layer_of(bad), "b": layer_of(bad)}, model="Net"))
    out = command_line("show", "run")[1]
    assert "first NaN or infinity: a, steps 31 to 40" in out
    assert "NaN or inf by step" in out


def test_callbacks_write_it(tmp_path: Path) -> None:
    intervals = pytest.importorskip("fmstats.integrations.intervals")
    model = nn.Sequential(nn.ReLU())

    def train(steps: range) -> None:
        watched = intervals.Intervals(model, step=steps.start - 1, history=tmp_path / "run")
        for step in steps:
            watched.begin()
            model(torch.ones(3, 2))
            watched.end()
            if watched.reaches(step, 10):
                watched.flush(step)
        watched.close()

    train(range(1, 41))
    history = History(tmp_path / "run")
    assert history.steps == [10, 20, 30, 40]
    assert int(history[20]["0"].count[0]) == 30
    train(range(21, 31))  # resumed from a checkpoint of step 20
    assert history.steps == [10, 20, 30]
