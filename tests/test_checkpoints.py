"""A run that is broken off goes on where it was: nothing is lost, nothing is counted twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import fmstats
from fmstats import storage
from fmstats.cli import main
from fmstats.errors import FmstatsError
from fmstats.runs import RunInterrupted
from fmstats.sources import open_data

HERE = Path(__file__).parent


class Plan(threading.local):
    """What shall happen to models: of the process, and so no part of what they are."""

    def __init__(self):
        self.of = weakref.WeakKeyDictionary()


PLAN = Plan()


class Net(nn.Module):
    """Counts its passes, and calls `at` in the middle of a pass whose number is given."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(6, 4), nn.ReLU()

    @property
    def plan(self):
        return PLAN.of.setdefault(self, {"at": {}, "passes": 0})

    @property
    def at(self):
        return self.plan["at"]

    @at.setter
    def at(self, at):
        self.plan["at"] = at

    @property
    def passes(self):
        return self.plan["passes"]

    @passes.setter
    def passes(self, passes):
        self.plan["passes"] = passes

    def forward(self, x):
        call = self.at.get(self.passes, lambda: None)
        self.passes += 1
        x = self.first(x)
        call()
        return self.second(x)


@pytest.fixture(autouse=True)
def _listening() -> Iterator[None]:
    """SIGINT as in a terminal: in the background it may have been set to be ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def data():
    return torch.randn(23, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def file(tmp_path, data):
    np.save(tmp_path / "x.npy", data.numpy())
    return tmp_path / "x.npy"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.fmstats"


def profile(model, data, **options):
    """A run over rows, each of which is a sample."""
    return fmstats.profile(model, data, **{"batch_dim": 0, **options})


def interrupt():
    raise KeyboardInterrupt


def assert_same(got, want):
    assert list(got) == list(want)
    for name in want:
        assert torch.equal(got[name].state.words, want[name].state.words)  # bit for bit
        assert got.info[name].calls == want.info[name].calls
    for key in ("samples", "batches", "passes", "passes_measured", "coverage", "skipped"):
        assert got.metadata[key] == want.metadata[key], key


@pytest.mark.parametrize("kills", [5, pytest.param(25, marks=pytest.mark.long)])
def test_killed_at_any_moment_a_run_over_photographs_goes_on(tmp_path, kills):
    pytest.importorskip("skimage", reason="the photographs are scikit-image's")
    pytest.importorskip("sklearn", reason="and scikit-learn's")
    if not hasattr(os, "fork"):
        pytest.skip("forks each run")
    from fmstats.demo.photographs import find_photographs

    photographs = tmp_path / "photographs"
    photographs.mkdir()
    for source in find_photographs():
        (photographs / source.name).symlink_to(source)
    command = [sys.executable, HERE / "run_worker.py", photographs, tmp_path, kills]
    package = Path(fmstats.__file__).parents[1]
    done = subprocess.run(
        list(map(str, command)),
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(package)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    moments = [int(line.split()[2]) for line in done.stdout.splitlines()]
    assert len(moments) == kills
    assert len(set(moments)) > 2  # not all at the beginning, nor at the end
    reference = storage.load(tmp_path / "reference.fmstats")
    assert reference.metadata["samples"] == 18
    for number, moment in enumerate(moments):
        result = storage.load(tmp_path / f"result{number}.fmstats")
        assert result.metadata["resumed"] >= moment  # more, if it went on before the second kill
        assert_same(result, reference)


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("kind", ["stored", "list"])
def test_cut_anywhere(data, file, path, kind, every):
    batches = open_data(file, batch_size=4) if kind == "stored" else list(data.split(4))
    want = profile(Net(), batches, every=every)
    for cut in range(6):
        model = Net()
        model.at = {cut: interrupt}
        path.unlink(missing_ok=True)
        with pytest.raises(RunInterrupted):
            profile(model, batches, every=every, checkpoint=path)
        done = storage.load(path).metadata
        assert (done["batches"], done["samples"]) == (cut, 4 * cut)
        model = Net()
        got = profile(model, batches, every=every, checkpoint=path)
        assert model.passes == 6 - cut
        assert got.metadata["resumed"] == 4 * cut
        assert_same(got, want)


def test_stored_samples_are_not_read_again(file, path, monkeypatch):
    model = Net()
    model.at = {4: interrupt}
    with pytest.raises(RunInterrupted):
        profile(model, open_data(file, batch_size=4), checkpoint=path)
    spans = []
    source = open_data(file, batch_size=4)
    read = source.stored.read
    object.__setattr__(
        source.stored, "read", lambda s, skipped: (spans.append(x) or x for x in read(s, skipped))
    )
    profile(Net(), source, checkpoint=path)
    whole = source.stored.spans()  # Compared by their content; then only the rest is run.
    assert [span for span, _ in spans] == [*whole, range(16, 20), range(20, 23)]


def test_images_prepared_otherwise_are_other_data(tmp_path, path):
    pillow = pytest.importorskip("PIL.Image", reason="needs Pillow")
    pillow.new("RGB", (9, 9)).save(tmp_path / "a.png")
    usual = {"image_size": 6, "resize": 8, "mean": (0.5,) * 3, "std": (0.5,) * 3}
    profile(Net(), open_data(tmp_path, **usual), checkpoint=path)
    others = {"image_size": 7, "resize": 9, "mean": (0.5, 0.5, 0.25), "std": (0.5, 1, 0.5)}
    for option, value in others.items():
        with pytest.raises(FmstatsError, match=r"transform: "):
            profile(Net(), open_data(tmp_path, **{**usual, option: value}), checkpoint=path)
    profile(Net(), open_data(tmp_path, **usual), checkpoint=path)


def test_what_was_left_out_is_counted_once(tmp_path, path):
    pillow = pytest.importorskip("PIL.Image", reason="needs Pillow")
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(12):
        pillow.new("RGB", (9, 9), (20 * number, 0, 0)).save(folder / f"{number:02}.png")
    for number in (1, 4, 5, 6, 11):
        (folder / f"{number:02}.png").write_bytes(b"broken")

    def run(model, **options):
        data = open_data(folder, batch_size=2, image_size=6, on_bad_sample="skip")
        return profile(model, data, on_bad_sample="skip", **options)

    want = run(Net())
    assert (want.metadata["skipped_count"], want.metadata["samples"]) == (5, 7)
    for cut in range(5):  # of six spans, one of which has nothing that can be read
        model = Net()
        model.at = {cut: interrupt}
        path.unlink(missing_ok=True)
        with pytest.raises(RunInterrupted):
            run(model, checkpoint=path)
        got = run(Net(), checkpoint=path)
        assert got.metadata["skipped_count"] == 5
        assert_same(got, want)


def test_limit_holds_over_lives(data, path):
    model = Net()
    model.at = {1: interrupt}
    with pytest.raises(RunInterrupted):
        profile(model, list(data.split(4)), limit=10, checkpoint=path)
    got = profile(Net(), list(data.split(4)), limit=10, checkpoint=path)
    assert_same(got, profile(Net(), list(data.split(4)), limit=10))
    assert got.metadata["samples"] == 10


@pytest.mark.parametrize("kind", ["stored", "list"])
def test_a_complete_run_is_not_run_again(data, file, path, kind, monkeypatch):
    def batches():
        return open_data(file, batch_size=4) if kind == "stored" else list(data.split(4))

    want = profile(Net(), batches(), checkpoint=path)
    before = path.read_bytes(), path.stat().st_mtime_ns
    model = Net()
    model.at = {0: pytest.fail}
    start = "fmstats.runs.run.start_tracking"
    monkeypatch.setattr(start, lambda *_: pytest.fail("it was tracked"))
    got = profile(model, batches(), checkpoint=path)
    assert model.passes == 0
    assert model.training
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
    assert_same(got, want)
    told = ("resumed", "resumed_batches", "samples", "batches")
    assert [want.metadata[key] for key in told] == [0, 0, 23, 6]
    assert [got.metadata[key] for key in told] == [23, 6, 23, 6]
    for key in ("seconds", "started", "ended", "statistics_share"):  # of the run that was
        assert got.metadata[key] == want.metadata[key]
    assert "checkpoint" not in got.metadata
    assert "trusted" not in got.metadata


def test_seconds_add_up_and_time_goes_on(data, path):
    model = Net()
    model.at = {3: interrupt}
    with pytest.raises(RunInterrupted) as caught:
        profile(model, list(data.split(4)), checkpoint=path)
    first = caught.value.profile.metadata
    whole = profile(Net(), list(data.split(4)), checkpoint=path).metadata
    assert whole["started"] == first["started"] < first["ended"] <= whole["ended"]
    assert whole["seconds"] > first["seconds"] > 0


def test_written_as_often_as_asked(data, path, monkeypatch):
    written = []
    monkeypatch.setattr(storage, "save", lambda p, _: written.append(p.metadata["samples"]))
    profile(Net(), list(data.split(8)), checkpoint=path, checkpoint_every=0)
    assert written == [0, 8, 16, 23, 23]  # at the beginning, after each, at the end
    written.clear()
    profile(Net(), list(data.split(8)), checkpoint=path)
    assert written == [0, 23]


def other_weights():
    model = Net()
    with torch.no_grad():
        model.first.weight[3, 5] += 1
    return model


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"model": other_weights()}, r": the values of first\.weight differ\. .*delete the file"),
        (
            {"model": nn.Sequential(nn.ReLU())},
            r"\(model: 'Net' in the checkpoint, 'Sequential' now; struct",
        ),
        ({"zero_tol": 0.5}, r"\(zero_tol: 0.0 in the checkpoint, 0.5 now\)"),
        ({"include": nn.ReLU}, r"\(include: None in the checkpoint, 'torch.*\.ReLU' now\)"),
        ({"limit": 9}, r"\(limit: None in the checkpoint, 9 now\)"),
        (
            {"dtype": torch.float64},
            r"\(dtype: 'torch.float32' in the checkpoint, 'torch.float64' now\)",
        ),
        ({"batch_size": 5}, r"\(batch_size: 4 in the checkpoint, 5 now\)"),
        (
            {"data": "list"},
            r"\(data: .* in the checkpoint, 'list' now; batch_size: 4 in the checkpoint, None now",
        ),
    ],
)
def test_another_run_is_refused(data, file, path, other, message):
    def run(model=None, data=None, batch_size=4, **options):
        batches = open_data(file, batch_size=batch_size) if data is None else [torch.zeros(2, 6)]
        return profile(model or Net(), batches, checkpoint=path, **options)

    stopped = Net()
    stopped.at = {2: interrupt}
    with pytest.raises(RunInterrupted):
        run(stopped)
    before = path.read_bytes()
    with pytest.raises(FmstatsError, match=r"checkpoint '.*' .* another run ?" + message):
        run(**other)
    assert path.read_bytes() == before
    assert run(on_bad_sample="skip").metadata["samples"] == 23  # What changes nothing may change.


def test_other_batches_of_an_iterable_are_refused(data, path):
    model = Net()
    model.at = {3: interrupt}
    with pytest.raises(RunInterrupted):
        profile(model, iter(data.split(4)), checkpoint=path)
    with pytest.raises(
        FmstatsError, match="the first 3 batches differ from those that the run read"
    ):
        profile(Net(), iter(data.flip(0).split(4)), checkpoint=path)
    with pytest.raises(FmstatsError, match=r"the data ended after 1 batches, .* read 3 "):
        profile(Net(), iter(data[:4].split(4)), checkpoint=path)
    got = profile(Net(), iter(data.split(4)), checkpoint=path)
    assert_same(got, profile(Net(), iter(data.split(4))))


def test_a_loader_that_shuffles_is_refused(data, path):
    dataset = torch.utils.data.TensorDataset(data)
    loader = torch.utils.data.DataLoader(dataset, batch_size=4, shuffle=True)
    with pytest.raises(FmstatsError, match="checkpoint= needs the same batches in the same order"):
        profile(Net(), loader, checkpoint=path)
    assert not path.exists()

    def seeded():
        generator = torch.Generator().manual_seed(3)
        return torch.utils.data.DataLoader(dataset, batch_size=4, shuffle=True, generator=generator)

    model = Net()
    model.at = {3: interrupt}
    with pytest.raises(RunInterrupted):
        profile(model, seeded(), checkpoint=path)
    assert_same(profile(Net(), seeded(), checkpoint=path), profile(Net(), seeded()))


def test_other_files_are_refused_and_untouched(file, path, tmp_path):
    storage.save(profile(Net(), file), path)
    before = path.read_bytes()
    with pytest.raises(FmstatsError, match=r"run.fmstats' is a profile but not a checkpoint"):
        profile(Net(), file, checkpoint=path)
    assert path.read_bytes() == before
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(FmstatsError):
        profile(Net(), file, checkpoint=path)
    assert path.read_bytes() == b"nothing of the kind"
    model = Net()
    with pytest.raises(FmstatsError, match="there is no folder"):
        profile(model, file, checkpoint=tmp_path / "absent" / "run.fmstats")
    assert model.passes == 0


def test_a_refused_batch_leaves_a_checkpoint_of_those_before(data, path):
    batches = [*data.split(4)[:3], torch.zeros(4, 5), *data.split(4)[3:]]
    with pytest.raises(
        FmstatsError, match=r"batch 4, .*\(3 batches were measured before, kept in '"
    ):
        profile(Net(), batches, checkpoint=path)
    model = Net()
    result = profile(model, batches, checkpoint=path, on_bad_sample="skip")
    assert (model.passes, result.metadata["samples"]) == (4, 23)
    assert result.metadata["skipped_count"] == 1
    assert_same_states(result, profile(Net(), list(data.split(4))))


def assert_same_states(got, want):
    for name in want:
        assert torch.equal(got[name].state.words, want[name].state.words)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_waits_for_the_end_of_the_batch(data, path, number):
    model = Net()
    model.at = {2: lambda: os.kill(os.getpid(), number)}
    with pytest.raises(KeyboardInterrupt, match=r"^interrupted after 12 samples; .*run.fmstats"):
        profile(model, list(data.split(4)), checkpoint=path)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert storage.load(path)["second"].count[0] == 12
    assert_same(
        profile(Net(), list(data.split(4)), checkpoint=path), profile(Net(), list(data.split(4)))
    )


def test_the_second_signal_breaks_the_batch_off_and_leaves_no_trace_of_it(data, path):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    model = Net()
    model.at = {2: twice}
    with pytest.raises(RunInterrupted) as caught:
        profile(model, list(data.split(4)), checkpoint=path)
    for kept in (caught.value.profile, storage.load(path)):
        assert kept["first"].count[0] == kept["second"].count[0] == kept.metadata["samples"] == 8


def test_a_signal_ends_reading_at_once(data, path):
    after = []

    def give():
        yield from data.split(4)[:2]
        os.kill(os.getpid(), signal.SIGTERM)
        after.append(1)

    with pytest.raises(RunInterrupted) as caught:
        profile(Net(), give(), checkpoint=path)
    assert not after
    assert caught.value.profile.metadata["samples"] == 8


def test_handlers_of_others_stay(data):
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
    try:
        model = Net()
        model.at = {1: lambda: os.kill(os.getpid(), signal.SIGTERM)}
        assert profile(model, list(data.split(4))).metadata["samples"] == 23
    finally:
        signal.signal(signal.SIGTERM, before)
    assert seen == [1]


COMMAND = """
import os, signal, torch
from torch import nn
def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 4), nn.ReLU())
def batches():
    for number, batch in enumerate(torch.arange(138.).view(23, 6).split(4)):
        if number == 3 and not os.path.exists("told"):
            open("told", "w").close()
            os.kill(os.getpid(), signal.SIGINT)
        yield batch, torch.zeros(len(batch))
"""


def test_the_command_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    pytest.importorskip("typer", reason="needs typer")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "some_run.py").write_text(COMMAND)

    def run(*more):
        with pytest.raises(SystemExit) as exit_:
            main(["profile", "some_run.py:net", "--data", "some_run.py:batches", *more])
        captured = capsys.readouterr()
        return exit_.value.code, captured.out, captured.err

    code, out, err = run("--checkpoint", "r.fmstats")
    assert (code, out) == (130, "")
    first, last = err.strip().splitlines()
    assert first.startswith("interrupted after 12 samples; 'r.fmstats' ")
    assert last == "To resume, give the same command again"
    code, out, err = run("--checkpoint", "r.fmstats")
    assert (code, err) == (0, "")
    compared = "its weights, code, data and options were compared and are the same"
    assert f"\nResumed from r.fmstats, which had 12 of 23 samples; {compared}\n" in out
    assert "samples: 23, batches: 6" in out
    code, out, err = run("--checkpoint", "r.fmstats")
    done = "All 23 samples were in r.fmstats, which is complete: nothing was run"
    assert f"\n{done}; {compared}\n" in out
    (tmp_path / "told").unlink()
    code, out, err = run("--out", "p.json")
    assert code == 130
    assert err.endswith(
        "no checkpoint to resume from\nWhat was measured so far is written to p.json\n"
    )
    written = json.loads((tmp_path / "p.json").read_text())["metadata"]
    assert (written["samples"], written["interrupted"]) == (12, True)
