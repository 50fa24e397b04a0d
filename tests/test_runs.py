"""`profile` runs all the data, reports what it did, and leaves the model as it found it."""

from __future__ import annotations

import json
from datetime import datetime, timedelta

import numpy as np
import pytest
import torch
from torch import nn

import fmstats
from fmstats.errors import FmstatsError
from fmstats.runs import profile
from fmstats.sources import open_data


class Net(nn.Module):
    """Dropout and batch norm differ between training and evaluation; `unused` never fires."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.act = nn.ReLU()
        self.drop = nn.Dropout(0.5)
        self.unused = nn.Linear(2, 2)

    def forward(self, x, scale=1.0):
        return self.drop(self.act(self.norm(self.conv(x)))) * scale


@pytest.fixture
def model():
    torch.manual_seed(0)
    return Net()


@pytest.fixture
def images():
    return torch.randn(10, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def hooks_of(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


def assert_same(left, right):
    assert list(left) == list(right)
    for name in left:
        for field in ("count", "nan", "zeros"):
            assert np.array_equal(getattr(left[name], field), getattr(right[name], field))
        # Convolutions of other batch sizes round differently.
        for field in ("mean", "var", "min", "max"):
            np.testing.assert_allclose(
                getattr(left[name], field), getattr(right[name], field), rtol=1e-5, atol=1e-6
            )


def test_statistics_are_those_of_evaluation(model, images):
    result = profile(model, images.split(4))
    model.eval()
    with torch.no_grad():
        expected = model.act(model.norm(model.conv(images)))
    stats = result["drop"]
    np.testing.assert_allclose(stats.mean, expected.mean((0, 2, 3)).double().numpy(), rtol=1e-5)
    assert np.array_equal(stats.zeros, (expected == 0).sum((0, 2, 3)).numpy())
    assert np.array_equal(stats.count, [10 * 36] * 4)


def test_metadata(model, images):
    metadata = profile(model, images.split(4)).metadata
    assert (metadata["samples"], metadata["batches"]) == (10, 3)
    assert 0 < metadata["seconds"] < 60
    assert metadata["coverage"] == [
        {"name": "unused", "type": "Linear", "status": "never fired", "reason": None}
    ]
    assert "data" not in metadata
    started, ended = (datetime.fromisoformat(metadata[key]) for key in ("started", "ended"))
    assert started <= ended
    assert started.utcoffset() == timedelta(0)
    assert metadata["options"]["every"] == 1
    assert metadata["options"]["dtype"] == "torch.float32"
    assert json.loads(json.dumps(metadata)) == metadata


def test_every_form_of_data_gives_the_same(model, images, tmp_path):
    np.save(tmp_path / "x.npy", images.numpy())
    expected = profile(model, images)
    assert expected.metadata["batches"] == 1
    labels = torch.zeros(10)
    dataset = torch.utils.data.TensorDataset(images, labels)
    for data in (
        images.numpy(),
        images.double(),
        [images[:6].double(), images[6:]],
        (batch for batch in images.split(3)),
        [{"x": batch} for batch in images.split(3)],
        [({"x": images, "scale": 2.0}, labels)],
        torch.utils.data.DataLoader(dataset, batch_size=4),
        open_data(tmp_path / "x.npy", batch_size=7),
        tmp_path / "x.npy",
        str(tmp_path / "x.npy"),
    ):
        result = profile(model, data)
        assert_same(result, expected)
        assert result.metadata["samples"] == 10


def test_a_source_is_described(model, images, tmp_path):
    np.save(tmp_path / "x.npy", images.numpy())
    source = open_data(tmp_path / "x.npy")
    metadata = profile(model, source).metadata
    assert metadata["data"] == source.description
    assert metadata["skipped"] == []


def test_how_images_were_prepared_is_kept(model, images, tmp_path):
    pillow = pytest.importorskip("PIL.Image", reason="needs Pillow")
    pillow.new("RGB", (9, 9)).save(tmp_path / "a.png")
    source = open_data(tmp_path, image_size=8, mean=(0.5,) * 3, std=(0.25,) * 3)
    made = profile(model, source)
    assert made.metadata["data"].endswith(", 8 px, mean 0.5, std 0.25")
    made.save(tmp_path / "p.fmstats")
    assert fmstats.load(tmp_path / "p.fmstats").metadata["inputs"] == {
        **{"image_size": 8, "resize": 9, "mean": [0.5] * 3, "std": [0.25] * 3}
    }
    assert "inputs" not in profile(model, images).metadata


def test_skipped_files_are_recorded(model, tmp_path):
    pillow = pytest.importorskip("PIL.Image", reason="needs Pillow")
    pillow.new("RGB", (9, 9)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"broken")
    source = open_data(tmp_path, image_size=8, on_bad_sample="skip")
    metadata = profile(model, source).metadata
    assert metadata["samples"] == 1
    assert metadata["skipped_count"] == 1
    assert metadata["skipped"][0].startswith(f"image '{tmp_path / 'b.png'}' cannot be read: ")


@pytest.mark.parametrize(("limit", "batches"), [(1, 1), (4, 1), (5, 2), (99, 3)])
def test_limit_counts_samples(model, images, limit, batches):
    result = profile(model, images.split(4), limit=limit, batch_dim=0)
    samples = min(limit, 10)
    assert (result.metadata["samples"], result.metadata["batches"]) == (samples, batches)
    assert result["act"].count[0] == samples * 36
    assert_same(result, profile(model, images[:limit]))


def test_selection_and_options_reach_the_tracker(model, images):
    result = profile(
        model,
        images.split(2),
        include=["conv", nn.ReLU],
        exclude="act",
        every=2,
        channel_dim=2,
        zero_tol=1e9,
        backend="reference",
    )
    assert list(result) == ["conv"]
    assert result["conv"].count.tolist() == [3 * 2 * 4 * 6] * 6
    assert result["conv"].sparsity.tolist() == [1.0] * 6
    assert result.info["conv"].backend == "reference"
    assert result.metadata["batches"] == 5


def test_training_flags_come_back(model, images):
    model.train()
    model.norm.eval()
    during = []
    model.conv.register_forward_hook(
        lambda *_: during.append([m.training for m in model.modules()])
    )
    before = [module.training for module in model.modules()]
    running = model.norm.running_mean.clone()
    profile(model, images)
    assert during == [[False] * 6]
    assert [module.training for module in model.modules()] == before
    assert before == [True, True, False, True, True, True]
    assert torch.equal(model.norm.running_mean, running)


def test_what_eval_does_train_undoes(images):
    class Merging(nn.Conv2d):
        merged = False

        def train(self, mode=True):
            self.merged = not mode
            return super().train(mode)

    model = nn.Sequential(Merging(3, 4, 3), nn.ReLU())
    profile(model, images)
    assert model[0].merged is False
    assert model.training


def test_exported_module_that_cannot_change_mode(images):
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    exported = torch.export.export(net, (images,)).module()
    model = nn.Sequential(exported, nn.ReLU())
    result = profile(model, images, include="1")
    assert result["1"].count[0] == 360
    assert model.training


def test_the_model_stays_where_it_is(model, images):
    weight = model.conv.weight
    result = profile(
        model, images, device="cpu", dtype=torch.bfloat16, channels_last=True, exclude="unused"
    )
    assert model.conv.weight is weight
    assert weight.dtype == torch.float32
    assert not weight.is_contiguous(memory_format=torch.channels_last)
    assert {layer.dtype for layer in result.info.values()} == {"bfloat16"}
    np.testing.assert_allclose(result["conv"].mean, profile(model, images)["conv"].mean, atol=0.02)


def test_lazy_modules_can_be_trained_afterwards(images):
    model = nn.Sequential(nn.LazyConv2d(4, 3), nn.LazyBatchNorm2d(), nn.ReLU())
    assert profile(model, images.split(5))["2"].count[0] == 360
    model(images).sum().backward()
    assert model[0].weight.grad is not None


def test_inputs_follow_the_model(images):
    seen = []

    class Probe(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1, dtype=torch.float16))
            self.act = nn.ReLU()

        def forward(self, x, ids):
            seen.append((x.dtype, ids.dtype, torch.is_grad_enabled()))
            return self.act(x * self.weight)

    profile(Probe(), [((images, torch.arange(10)), None)])
    assert seen == [(torch.float16, torch.int64, False)]


def test_refused_batch_is_named_and_nothing_stays_hooked(model, images):
    model.train()
    data = [images, images[:, :2], images]
    with pytest.raises(FmstatsError) as caught:
        profile(model, data)
    text = str(caught.value)
    assert text.startswith("the model refused batch 2, (10, 2, 8, 8) float32: RuntimeError: Given ")
    assert text.endswith("(1 batch was measured before)")
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert hooks_of(model) == 0
    assert model.training


def test_failing_data_is_told_from_a_failing_model(model, images):
    def give():
        yield images
        yield images
        raise OSError("disk is gone")

    with pytest.raises(
        FmstatsError,
        match=r"reading batch 3 raised OSError: disk is gone \(test_runs.py, line \d+\) "
        r"\(2 batches were measured before\)$",
    ):
        profile(model, give())
    assert hooks_of(model) == 0


def test_bad_sample_in_a_source_names_the_file(model, tmp_path):
    pillow = pytest.importorskip("PIL.Image", reason="needs Pillow")
    pillow.new("RGB", (9, 9)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"broken")
    with pytest.raises(
        FmstatsError, match=r"b.png' cannot be read: .* \(1 batch was measured before"
    ):
        profile(model, open_data(tmp_path, image_size=8, batch_size=1))


def test_error_in_a_hook_names_batch_and_layer(images):
    model = nn.Sequential(nn.Identity(), nn.ReLU())
    options = {"channel_dim": 3, "on_error": "raise"}
    with pytest.raises(
        FmstatsError, match=r"batch 2: layer '0' \(Identity\): .*1 batch was measured"
    ):
        profile(model, [images, images[0]], **options)
    assert hooks_of(model) == 0


def test_layers_that_were_not_measured_are_told(images, capsys):
    model = nn.Sequential(nn.ReLU(), nn.Flatten(0))
    with pytest.warns(
        RuntimeWarning, match=r"no longer measures layer '1' \(Flatten\): channel_dim=1"
    ):
        result = profile(model, [images], channel_dim=1, progress=False)
    told = (
        "not measured, or not all of it: 1 selected layer\n  1 (Flatten): skipped, disabled after"
    )
    assert list(result) == ["0"]
    assert told in str(result)
    assert capsys.readouterr().err.startswith(f"fmstats: {told}")
    profile(nn.ReLU(), [images], progress=False)
    assert capsys.readouterr().err == ""


def test_interruption_leaves_nothing_behind(model, images):
    def give():
        yield images
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        profile(model, give())
    assert hooks_of(model) == 0
    assert model.training


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "the data gave no batch"),
        (iter([]), "the data gave no batch"),
        (3, "data is of type int, not an iterable of batches"),
        ({"x": 1}, r"data is one dict, not an iterable of batches: write \[batch\]"),
        (["text"], r"batch 1 is of type str: .* \(0 batches were measured before\)"),
        ("nowhere", "data 'nowhere' does not exist"),
        (torch.utils.data.TensorDataset(torch.zeros(3)), "data is a Dataset"),
    ],
)
def test_wrong_data(model, data, message):
    with pytest.raises(FmstatsError, match=message):
        profile(model, data)
    assert hooks_of(model) == 0


def test_wrong_arguments(model, images):
    with pytest.raises(FmstatsError, match="model is of type str, not an nn"):
        profile("net", images)
    with pytest.raises(FmstatsError, match="limit=0: give a whole number, 1 or more"):
        profile(model, images, limit=0)
    with pytest.raises(FmstatsError, match="nothing_like_it"):
        profile(model, images, include="nothing_like_it")
    with pytest.raises(FmstatsError, match=r"device: gpu, .*devices usable here: cpu"):
        profile(model, images, device="gpu")
    assert hooks_of(model) == 0


class Scaled(nn.Module):
    """Takes a temperature before its images."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, temperature, x):
        return self.conv(x) / temperature


def test_samples_are_those_of_the_batch_or_unknown(images):
    def count(model, *batches, **options):
        return profile(model, list(batches), **options).metadata["samples"]

    conv, rnn, linear = nn.Conv2d(3, 4, 3), nn.GRU(10, 20), nn.Linear(8, 8)
    unbatched = list(torch.rand(10, 3, 16, 16))
    assert count(conv, *unbatched) == 10  # images without a batch dim
    assert count(conv, *images.split(4)) == 10
    assert count(nn.Sequential(linear), *unbatched[:0], images) is None
    assert count(rnn, torch.rand(50, 3, 10)) == 3  # time-major
    assert count(rnn, torch.rand(50, 10)) == 1  # one sequence
    assert count(Scaled(), ((torch.ones(1), images), None)) == 10
    assert count(linear, images, images) is None
    assert count(linear, (images, torch.zeros(10)), images) is None  # one is enough
    assert count(linear, images, images, batch_dim=0) == 20
    assert count(linear, images, batch_dim=1) == 3
    # What layers say of their inputs is more than what sizes happen to share.
    assert count(conv, (unbatched[0], torch.zeros(3))) == 1
    assert profile(linear, images).metadata["samples"] == 10  # a tensor of samples, in one batch
    assert profile(conv, unbatched[0]).metadata["samples"] == 1


def test_a_loader_knows_its_samples(images):
    class Images(torch.utils.data.Dataset):
        def __len__(self):
            return 10

        def __getitem__(self, place):
            return images[place]

    loader = torch.utils.data.DataLoader
    linear = nn.Linear(8, 8)
    assert profile(linear, loader(Images(), batch_size=4)).metadata["samples"] == 10
    assert profile(linear, loader(Images(), batch_size=4), limit=6).metadata["samples"] == 6
    time_major = loader(Images(), batch_size=4, collate_fn=lambda rows: torch.stack(rows, 1))
    assert profile(linear, time_major).metadata["samples"] is None
    assert profile(linear, time_major, batch_dim=1, limit=6).metadata["samples"] == 6


def test_unknown_samples_are_told_so(images, tmp_path):
    from fmstats.profiles.summary import describe_metadata

    linear = nn.Linear(8, 8)
    unknown = profile(linear, [images, images])
    assert (unknown.metadata["samples"], unknown.metadata["batches"]) == (None, 2)
    assert describe_metadata(unknown).startswith("samples: unknown, batches: 2, ")
    known = profile(linear, images)
    merged = unknown | known
    assert (merged.metadata["samples"], merged.metadata["batches"]) == (None, 3)
    assert (known | known).metadata["samples"] == 20
    merged.save(tmp_path / "p.fmstats")
    assert fmstats.load(tmp_path / "p.fmstats").metadata["samples"] is None
    assert known.compare(unknown).verdict == "not enough data"


def test_a_limit_of_unknown_samples_is_refused(model, images):
    with pytest.raises(
        FmstatsError, match=r"nothing tells how many batch 1 has, \(4, 3, 8, 8\) fl"
    ):
        profile(nn.Linear(8, 8), images.split(4), limit=5)
    time_major = [(torch.rand(50, 3, 10), torch.zeros(50))]
    rnn = nn.GRU(10, 20)
    text = r"size 50 along dim 0, .* samples along dim 1: give batch_dim=1"
    with pytest.raises(FmstatsError, match=text):
        profile(rnn, time_major, limit=60)
    result = profile(rnn, time_major, limit=2, batch_dim=1)
    assert (result.metadata["samples"], result["(model)"].count[0]) == (2, 100)
    with pytest.raises(
        FmstatsError, match=r"size 3 along dim 0, .* as one sample: leave limit= out"
    ):
        profile(model.conv, [(images[0], torch.zeros(3))], limit=60)
    with pytest.raises(FmstatsError, match=r"batch_dim='1': give the number of a dim, or None"):
        profile(model, images, batch_dim="1")


class Caching(nn.Module):
    """Keeps a table of positions, and its last output, from its forward pass."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.register_buffer("positions", None)
        self.cache = {}

    def forward(self, x):
        if self.positions is None:
            self.positions = torch.arange(4.0)
        if "scale" not in self.cache:
            self.cache["scale"] = torch.ones(4) * 2
        return self.linear(x) * self.cache["scale"] + self.positions


def test_what_a_model_keeps_from_a_run_can_be_trained_and_loaded():
    model, other = Caching(), Caching()
    profile(model, torch.rand(3, 4))
    assert not any(t.is_inference() for t in (model.positions, model.cache["scale"]))
    model(torch.rand(3, 4, requires_grad=True)).sum().backward()
    assert model.linear.weight.grad is not None
    other(torch.rand(3, 4))
    model.load_state_dict(other.state_dict())
    model.positions += 1


class Forces(nn.Module):
    """Differentiates an energy by positions within forward, in grad mode or as it finds it."""

    def __init__(self, enable=False):
        super().__init__()
        self.energy, self.force = nn.Linear(3, 1), nn.Identity()
        self.enable = enable
        self.modes = []

    def forward(self, x):
        self.modes.append(torch.is_grad_enabled())
        with torch.set_grad_enabled(torch.is_grad_enabled() or self.enable):
            x = x.detach().requires_grad_()
            (force,) = torch.autograd.grad(self.energy(x).tanh().sum(), x)
        return self.force(force)


@pytest.mark.parametrize("enable", [False, True])
@pytest.mark.parametrize("every", [1, 2])
def test_models_that_differentiate_run(enable, every):
    torch.manual_seed(0)
    model = Forces(enable)
    data = torch.rand(8, 3).split(2)
    result = profile(model, data, every=every)
    assert model.modes == ([False] * 4 if enable else [False, True, True, True, True])
    measured = torch.cat(data[::every])
    forces = model(measured) if not enable else model(measured.clone())
    assert result["force"].count.tolist() == [len(measured)] * 3
    assert result["energy"].count.tolist() == [len(measured)]  # once, not twice
    np.testing.assert_allclose(result["force"].mean, forces.detach().double().mean(0), rtol=1e-5)
    assert result.metadata["passes"] == 4
    assert all(p.grad is None for p in model.parameters())


def test_a_model_that_cannot_differentiate_is_told_of(images):
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU()

        def forward(self, x):
            return self.act(torch.autograd.grad(x.detach().sum(), x)[0])

    with pytest.raises(FmstatsError, match=r"the model refused batch 1.*does not require grad"):
        profile(Detached(), images)
    assert torch.is_grad_enabled()
