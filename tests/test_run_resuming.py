"""A checkpoint, complete or not, answers only for the run that it came from."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

import fmstats
from fmstats import storage
from fmstats.errors import FmstatsError
from fmstats.runs import profile
from fmstats.runs.batch_runner import Placement
from fmstats.runs.checkpoints import Checkpoint, Progress
from fmstats.runs.identity import find_differences
from fmstats.runs.reading import Share
from fmstats.runs.run import Run
from fmstats.sources import open_data
from fmstats.tracking.options import TrackOptions

ROWS = torch.randn(23, 6, generator=torch.Generator().manual_seed(1))
CHOICES = r".*delete the file or give another one; .* resume='trust' \(--resume trust\)$"


def net(seed=0, last=None):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 4), last or nn.ReLU())


def pairs(rows=ROWS):
    return [(batch, torch.zeros(len(batch))) for batch in rows.split(4)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.fmstats"


@pytest.fixture(params=["complete", "stopped"])
def run(request, path):
    """Makes a checkpoint of a run, whole or broken off after three batches."""

    def make(model, batches, **options):
        if request.param == "complete":
            return profile(model, batches, checkpoint=path, **options)

        class Stopping(type(batches)):  # of the same name as what is stopped
            def __iter__(self):
                for number, batch in enumerate(super().__iter__()):
                    if number == 3:
                        raise KeyboardInterrupt
                    yield batch

        Stopping.__name__ = type(batches).__name__
        with pytest.raises(KeyboardInterrupt):
            profile(model, Stopping(batches), checkpoint=path, **options)
        return None

    return make


def test_weights(run, path):
    run(net(), pairs())
    text = r"another run: the values of 0\.weight, 0\.bias differ\. " + CHOICES
    with pytest.raises(FmstatsError, match=text):
        profile(net(seed=1), pairs(), checkpoint=path)
    assert profile(net(), pairs(), checkpoint=path).metadata["samples"] == 23


def test_one_value_far_inside_a_weight(path):
    model = nn.Sequential(nn.Linear(6, 40_000))
    profile(model, pairs(), checkpoint=path)
    with torch.no_grad():
        model[0].weight[33_333, 5] += 0.001
    with pytest.raises(FmstatsError, match=r"the values of 0\.weight differ"):
        profile(model, pairs(), checkpoint=path)


def test_the_part_of_one_rank_is_not_that_of_another(path):
    def identify(rank, ranks):
        place = Placement(None, None, False)
        share, options = Share(rank, ranks), TrackOptions()
        run = Run(net(), pairs(), None, None, share, "raise", options, place, False)
        return run.identify()

    parts = [(0, 1), (0, 2), (1, 2), (0, 4)]
    found = [identify(*part)["run"] for part in parts]
    assert identify(0, 2)["run"] == found[1]
    assert find_differences(found[1], found[2]) == ["rank: 0 in the checkpoint, 1 now"]
    assert find_differences(found[1], found[3]) == ["processes: 2 in the checkpoint, 4 now"]
    assert find_differences(found[0], found[1]) == ["processes: 1 in the checkpoint, 2 now"]


class Times(nn.Module):
    def forward(self, x):
        return x * 2


def test_code(run, path):
    def other(self, x):
        return x * 3

    run(net(last=Times()), pairs())
    before = Times.forward
    Times.forward = other
    try:
        with pytest.raises(FmstatsError, match=r"the code of Times differ\. "):
            profile(net(last=Times()), pairs(), checkpoint=path)
    finally:
        Times.forward = before
    assert profile(net(last=Times()), pairs(), checkpoint=path).metadata["samples"] == 23


def test_settings(run, path):
    run(net(last=nn.LeakyReLU(0.1)), pairs())
    with pytest.raises(FmstatsError, match=r"attributes or hooks of '1' differ\. "):
        profile(net(last=nn.LeakyReLU(0.2)), pairs(), checkpoint=path)


@pytest.mark.parametrize("place", [0, 11])
def test_batches_in_memory(run, path, place):
    run(net(), pairs())
    others = ROWS.clone()
    others[place, 5] += 0.001  # in the first or the third batch
    with pytest.raises(
        FmstatsError, match=r"the first \d batches differ from those that the run read"
    ):
        profile(net(), pairs(others), checkpoint=path)
    assert profile(net(), pairs(), checkpoint=path).metadata["samples"] == 23


def test_batches_that_a_run_has_not_come_to_may_differ(path):
    def stopped():
        yield from pairs()[:3]
        raise KeyboardInterrupt

    def whole(rows):
        yield from pairs(rows)

    with pytest.raises(KeyboardInterrupt):
        profile(net(), stopped(), checkpoint=path)
    others = ROWS.clone()
    others[12:] += 1
    assert profile(net(), whole(others), checkpoint=path).metadata["samples"] == 23


def test_other_things_in_batches_than_tensors_count(path):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(6, 4)

        def forward(self, x, scale):
            return self.linear(x) * scale

    torch.manual_seed(0)
    model = Scaled()
    batches = [({"x": batch, "scale": 2.0}, labels) for batch, labels in pairs()]
    profile(model, batches, checkpoint=path)
    batches[5][0]["scale"] = 3.0
    with pytest.raises(FmstatsError, match="the first 6 batches differ"):
        profile(model, batches, checkpoint=path)


def test_fewer_or_more_batches_than_a_complete_run_had(path):
    profile(net(), iter(pairs()), checkpoint=path)
    with pytest.raises(FmstatsError, match=r"the data ended after 5 batches, .* read 6 "):
        profile(net(), iter(pairs()[:5]), checkpoint=path)
    with pytest.raises(FmstatsError, match=r"more batches than the 6 with which the run ended"):
        profile(net(), iter([*pairs(), pairs()[0]]), checkpoint=path)
    assert profile(net(), iter(pairs()), checkpoint=path).metadata["resumed"] == 23


def test_a_loader_that_alters_its_samples(path):
    class Noisy(torch.utils.data.Dataset):
        def __len__(self):
            return 8

        def __getitem__(self, place):
            return ROWS[place] + float(np.random.default_rng().random())

    loader = torch.utils.data.DataLoader(Noisy(), batch_size=4)
    profile(net(), loader, checkpoint=path)
    with pytest.raises(FmstatsError, match=r"augmented at random; or delete the checkpoint, "):
        profile(net(), loader, checkpoint=path)
    assert profile(net(), loader, checkpoint=path, resume="trust").metadata["samples"] == 8


@pytest.mark.parametrize("kind", ["npy", "npz", "safetensors"])
def test_data_files_of_the_same_name_shape_and_time(tmp_path, path, kind):
    safetensors = pytest.importorskip("safetensors.torch", reason="needs safetensors")
    file = tmp_path / f"x.{kind}"
    save = {
        "npy": lambda rows: np.save(file, rows.numpy()),
        "npz": lambda rows: np.savez(file, rows.numpy()),
        "safetensors": lambda rows: safetensors.save_file({"x": rows}, file),
    }[kind]
    save(ROWS)
    times = file.stat().st_atime_ns, file.stat().st_mtime_ns
    profile(net(), file, checkpoint=path)
    others = ROWS.clone()
    others[22, 5] += 0.001
    save(others)
    os.utime(file, ns=times)
    with pytest.raises(FmstatsError, match=r": the content of the data differ\. " + CHOICES):
        profile(net(), file, checkpoint=path)
    save(ROWS)  # the same content at another time
    assert profile(net(), file, checkpoint=path).metadata["resumed"] == 23


def test_samples_beyond_the_limit_do_not_count(tmp_path, path):
    np.save(tmp_path / "x.npy", ROWS.numpy())
    profile(net(), tmp_path / "x.npy", checkpoint=path, limit=20)
    others = ROWS.clone()
    others[20:] = 0
    np.save(tmp_path / "x.npy", others.numpy())
    assert profile(net(), tmp_path / "x.npy", checkpoint=path, limit=20).metadata["resumed"] == 20


def test_image_files(tmp_path, path):
    pillow = pytest.importorskip("PIL.Image", reason="needs Pillow")
    folder = tmp_path / "images"
    folder.mkdir()

    def draw(number, level):
        pillow.new("RGB", (9, 9), (level, 0, 0)).save(folder / f"{number}.png")

    for number in range(5):
        draw(number, 10 * number)
    (folder / "5.png").write_bytes(b"broken")

    def run():
        options = {"batch_size": 2, "image_size": 6, "on_bad_sample": "skip"}
        model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU())
        nn.init.ones_(model[0].weight)
        nn.init.zeros_(model[0].bias)
        return profile(model, open_data(folder, **options), checkpoint=path)

    assert run().metadata["samples"] == 5
    assert run().metadata["resumed"] == 5
    draw(3, 31)
    with pytest.raises(FmstatsError, match=r": the content of the data differ\. "):
        run()
    draw(3, 30)
    assert run().metadata["resumed"] == 5
    (folder / "5.png").write_bytes(b"broken otherwise")
    with pytest.raises(FmstatsError, match=r": the content of the data differ\. "):
        run()


def test_what_cannot_be_told_is_asked_for(run, path):
    def model():
        made = net()
        made.stream = (number for number in range(3))
        return made

    run(model(), pairs())
    text = r"may belong to another run: .* layer '': attribute \['stream'\] \(builtins.generator\) "
    with pytest.raises(FmstatsError, match=text + CHOICES):
        profile(model(), pairs(), checkpoint=path)
    assert profile(model(), pairs(), checkpoint=path, resume="trust").metadata["samples"] == 23


def test_batches_that_cannot_be_told_are_asked_for(path):
    def batches():
        return [((x, iter([1])), labels) for x, labels in pairs()]

    class First(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x, _):
            return self.act(x)

    profile(First(), batches(), checkpoint=path)
    assert storage.load(path).metadata["checkpoint"]["unknown"] == []  # what pickle tells of it
    generators = [((x, (n for n in (1,))), labels) for x, labels in pairs()]
    path.unlink()
    profile(First(), generators, checkpoint=path)
    with pytest.raises(
        FmstatsError, match=r"may belong to .* a batch\[0\]\[1\] \(builtins.generator\)"
    ):
        profile(First(), generators, checkpoint=path)


def test_trust_goes_on_and_is_told(run, path):
    run(net(), pairs())
    result = profile(net(seed=1), pairs(-ROWS), checkpoint=path, resume="trust")
    assert result.metadata["samples"] == 23
    (told,) = result.metadata["trusted"]
    assert told.endswith("another run: the values of 0.weight, 0.bias differ")
    kept = profile(net(seed=1), pairs(-ROWS), checkpoint=path, resume="trust").metadata["trusted"]
    assert kept[0] == told
    with pytest.raises(
        FmstatsError, match=r"another run \(zero_tol: 0.0 in the checkpoint, 1.0 now\)"
    ):
        profile(net(), pairs(), checkpoint=path, resume="trust", zero_tol=1.0)
    with pytest.raises(FmstatsError, match=r"resume='always': choose 'auto' or 'trust'"):
        profile(net(), pairs(), checkpoint=path, resume="always")


def test_versions_and_autocast(path, monkeypatch):
    profile(net(), pairs(), checkpoint=path)
    with (
        torch.autocast("cpu", torch.bfloat16),
        pytest.raises(
            FmstatsError, match=r"autocast: None in the checkpoint, 'torch.bfloat16' now"
        ),
    ):
        profile(net(), pairs(), checkpoint=path)
    monkeypatch.setattr(torch, "__version__", "9.9")
    with pytest.raises(
        FmstatsError, match=r"another run: torch: '.*' in the checkpoint, '9.9' now\. "
    ):
        profile(net(), pairs(), checkpoint=path)


def old_checkpoint(path, **changes):
    """As fmstats 0.1.0 wrote it: with a sample of the weights, and nothing on code and data."""
    path.unlink(missing_ok=True)
    made = profile(net(), pairs(), checkpoint=path)
    written = storage.load(path)
    told = written.metadata["checkpoint"]
    known = {"weights": "0123456789abcdef", **told["identity"]["run"], **changes}
    old = {key: told[key] for key in ("next_batch", "passes", "complete")}
    written.metadata["checkpoint"] = {**old, "known": [5, "0123456789abcdef"], "identity": known}
    for key in ("batch_dim",):  # not known then
        known.pop(key)
    del written.metadata["resumed_batches"]
    storage.save(written, path)
    return made


def test_old_checkpoints(path):
    want = old_checkpoint(path)
    text = r"was written by fmstats [\d.a-z]+, which did not record the weights, code and data "
    with pytest.raises(FmstatsError, match=text + CHOICES):
        profile(net(), pairs(), checkpoint=path)
    got = profile(net(), pairs(), checkpoint=path, resume="trust")
    assert torch.equal(got["1"].state.words, want["1"].state.words)
    assert (got.metadata["resumed"], got.metadata["resumed_batches"]) == (23, 6)
    assert "did not record" in got.metadata["trusted"][0]
    old_checkpoint(path, zero_tol=1.0)
    with pytest.raises(FmstatsError, match=r"\(zero_tol: 1.0 in the checkpoint, 0.0 now\)"):
        profile(net(), pairs(), checkpoint=path, resume="trust")


@pytest.mark.parametrize("old", [False, True])
def test_an_option_that_a_checkpoint_does_not_tell(path, old):
    """Only a version that had no such option may be silent on it."""
    old_checkpoint(path) if old else profile(net(), pairs(), checkpoint=path)
    written = storage.load(path)
    identity = written.metadata["checkpoint"]["identity"]
    del (identity if old else identity["run"])["zero_tol"]
    storage.save(written, path)
    text = r"another run.*zero_tol: None .*, 0.0 "
    with nullcontext() if old else pytest.raises(FmstatsError, match=text):
        assert profile(net(), pairs(), checkpoint=path, resume="trust").metadata["samples"] == 23


@pytest.mark.parametrize("every", [0.0, 60.0])
def test_a_version_is_due_so_long_after_the_last_one(path, monkeypatch, every):
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    identity = {"run": {}, "content": {}, "unknown": []}
    keep = Checkpoint(path, every, identity, trusted=False)
    for _ in range(2):
        for later, due in ((0.0, every == 0), (59.0, every == 0), (1.0, True)):
            now[0] += later
            assert keep.is_due() == due
        keep.write(fmstats.Profile({}, {}), Progress())


@pytest.mark.parametrize(
    "damage",
    [
        {"identity": {"run": 3, "content": {}, "unknown": []}},
        {"identity": {"run": {}, "content": {}}},
        {"known": [1]},
        {"more": 1},
    ],
    ids=str,
)
def test_a_checkpoint_that_is_not_understood(path, damage):
    profile(net(), pairs(), checkpoint=path)
    written = storage.load(path)
    identity = written.metadata["checkpoint"]["identity"]
    written.metadata["checkpoint"].update(damage)
    if damage.get("identity", {}).get("run") == {}:
        written.metadata["checkpoint"]["identity"] = {**identity, "unknown": None}
    storage.save(written, path)
    with pytest.raises(FmstatsError, match=r"checkpoint '.*run.fmstats' cannot be read \("):
        profile(net(), pairs(), checkpoint=path)


@pytest.mark.parametrize("told", [{}, {"identity": 3}, {"identity": None, "passes": 1}, 5, [1]])
def test_a_profile_that_tells_of_no_run_is_no_checkpoint(path, told):
    made = profile(net(), pairs())
    made.metadata["checkpoint"] = told
    storage.save(made, path)
    with pytest.raises(FmstatsError, match=r"run.fmstats' is a profile .*checkpoint"):
        profile(net(), pairs(), checkpoint=path)


def test_a_place_that_cannot_be_written_is_refused_before_data_are_read(tmp_path):
    def batches():
        pytest.fail("they were read")
        yield

    for place, why in ((tmp_path, "it is a folder"), (tmp_path / "no" / "p", "there is no folder")):
        with pytest.raises(FmstatsError, match=f"cannot write '.*': {why}"):
            profile(net(), batches(), checkpoint=place)


@pytest.mark.parametrize("key", ["samples", "coverage", "backends"])
@pytest.mark.parametrize("wrong", ["x", "missing"])
def test_metadata_that_were_edited_are_refused(path, key, wrong):
    profile(net(), pairs(), checkpoint=path)
    written = storage.load(path)
    written.metadata[key] = wrong
    if wrong == "missing":
        del written.metadata[key]
    storage.save(written, path)
    text = rf"run.fmstats' cannot be read \('{key}' of the metadata "
    with pytest.raises(FmstatsError, match=text):
        profile(net(), pairs(), checkpoint=path)


MODULE = """
import torch
from torch import nn
class Net(nn.Sequential):
    def __init__(self):
        torch.manual_seed(0)
        super().__init__(nn.Linear(6, 4), nn.ReLU())
    def forward(self, x):
        return super().forward(x) * {factor}
"""


@pytest.fixture
def _folder(tmp_path, monkeypatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    np.save("x.npy", ROWS.numpy())
    (tmp_path / "some_resumed_net.py").write_text(MODULE.format(factor=2))
    for seed in (1, 2):
        torch.save(net(seed).state_dict(), f"w{seed}.pth")
    yield
    for name in [name for name in sys.modules if "some_resumed_net" in name]:
        del sys.modules[name]


@pytest.mark.usefixtures("_folder")
def test_the_command_line(command_line, tmp_path):
    pytest.importorskip("typer", reason="needs typer")

    def run(*more, weights="w1.pth"):
        return command_line(
            *("profile", "some_resumed_net.py:Net", "--data", "x.npy", "--weights", weights),
            *("--checkpoint", "r.fmstats", "--no-progress", *more),
        )

    assert run()[0] == 0
    code, out, _ = run()
    assert code == 0
    assert "All 23 samples were in r.fmstats" in out
    assert "complete" in out
    code, out, err = run(weights="w2.pth")
    assert (code, out) == (2, "")
    assert "the values of 0.weight, 0.bias differ" in err
    assert "--resume trust" in err
    (tmp_path / "some_resumed_net.py").write_text(MODULE.format(factor=3))
    code, _, err = run()
    assert code == 2
    assert "the code of Net differ" in err
    (tmp_path / "some_resumed_net.py").write_text(MODULE.format(factor=2))
    assert run()[0] == 0
    np.save("x.npy", -ROWS.numpy())
    code, _, err = run()
    assert code == 2
    assert "the content of the data differ" in err
    code, out, _ = run("--resume", "trust", "--out", "p.json")
    assert code == 0
    assert "its weights, code and data were trusted, not all compared\n" in out
    assert "Trusted: checkpoint 'r.fmstats' belongs to another run: the content of the data" in out
    trusted = json.loads((tmp_path / "p.json").read_text())["metadata"]["trusted"]
    assert len(trusted) == 1


@pytest.mark.parametrize(("key", "here"), [("processes", 1), ("rank", 0)])
def test_the_part_of_another_process_is_another_run(path, key, here):
    profile(net(), pairs(), checkpoint=path)
    written = storage.load(path)
    assert written.metadata["checkpoint"]["identity"]["run"][key] == here
    written.metadata["checkpoint"]["identity"]["run"][key] = 2
    storage.save(written, path)
    for resume in ("auto", "trust"):
        with pytest.raises(
            FmstatsError, match=rf"another run \({key}: 2 in the checkpoint, {here} now\)"
        ):
            profile(net(), pairs(), checkpoint=path, resume=resume)


def test_the_choice_is_of_the_public_function():
    assert fmstats.profile is profile
