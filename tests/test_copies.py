"""A look at a model leaves it, its arguments and the process as they were."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable

import keeping_models
import numpy as np
import pytest
import torch
from keeping_models import MODELS, Doing, X
from snapshot import Snapshot
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor

import fmstats
from fmstats.errors import FmstatsError

DEVICES = pytest.mark.parametrize("device", ["meta", "cpu"])


def everything(*roots: object) -> Snapshot:
    return Snapshot(*roots, vars(keeping_models))


@DEVICES
@pytest.mark.parametrize("name", MODELS)
def test_analyze_leaves_all_as_it_was(name: str, device: str) -> None:
    model, inputs = MODELS[name]()
    before = everything(model, inputs)
    fmstats.analyze(model, *inputs, device=device)
    before.check()


class Failing(nn.Module):
    """Raises when its part has done what it does."""

    def __init__(self, part: nn.Module, error: BaseException) -> None:
        super().__init__()
        self.part, self.error = part, error

    def forward(self, *args: object) -> Tensor:
        self.part(*args)
        raise self.error


@DEVICES
@pytest.mark.parametrize("error", [ValueError("half-way"), KeyboardInterrupt()])
@pytest.mark.parametrize("name", MODELS)
def test_also_when_it_ends_early(name: str, error: BaseException, device: str) -> None:
    part, inputs = MODELS[name]()
    model = Failing(part, error)
    before = everything(part, inputs)
    kind = FmstatsError if isinstance(error, Exception) else type(error)
    with pytest.raises(kind):
        fmstats.analyze(model, *inputs, device=device)
    assert before.changes() == []


def test_the_case_that_was_reported() -> None:
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, nn.ReLU(), layer)
    weight, bias = layer.weight, layer.bias
    found = fmstats.analyze(model, input_size=(2, 4))
    assert (layer.weight, layer.bias) == (weight, bias)
    assert type(layer.weight) is nn.Parameter
    assert (found.totals["params"], found.totals["flops"]) == (20, 2 * 2 * 2 * 16)
    assert type(model(torch.ones(2, 4))) is Tensor


PICTURES: dict[str, Callable[[nn.Module, Tensor], object]] = {
    "visualize": lambda model, x: fmstats.visualize(model, (x,), "0"),
    "visualize_hierarchy": lambda model, x: fmstats.visualize_hierarchy(model, (x,)),
    "top_images": lambda model, x: fmstats.top_images(model, [x, x], "0", 0, 1),
    "overlay": lambda model, x: fmstats.overlay(model, x, "0", 0),
}


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("name", MODELS)
def test_pictures_leave_all_as_it_was(name: str, picture: str) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    part, inputs = MODELS[name]()

    class Beside(nn.Module):
        """Has a part run that is no layer of images."""

        def __init__(self) -> None:
            super().__init__()
            self.part = part

        def forward(self, x: Tensor) -> Tensor:
            self.part(*inputs)
            return x

    image = torch.rand(1, 3, 8, 8)
    model = nn.Sequential(nn.Conv2d(3, 2, 3), Beside(), nn.ReLU(inplace=True)).train()
    before = everything(model, inputs, image)
    PICTURES[picture](model, image)
    before.check()


@pytest.mark.parametrize("warmup", [False, True])
@pytest.mark.parametrize("name", [name for name in MODELS if name != "a scripted part"])
def test_a_tracker_leaves_nothing(name: str, warmup: bool) -> None:
    model, inputs = MODELS[name]()
    before = everything(model, inputs)
    with fmstats.track(model, warmup=warmup) as tracker:
        tracker.stats(), tracker.coverage()
    before.check()


def test_channel_stats_leave_a_tensor_as_it_was() -> None:
    x = torch.randn(2, 3, 4, requires_grad=True)
    before = everything(x)
    fmstats.channel_stats(x)
    before.check()


# What a pass itself does, without fmstats, is the model's own doing.
QUIET = ("tied layers", "a shared norm", "an adapter", "parametrizations")
QUIET = (*QUIET, "gradients", "what cannot be copied")


@pytest.mark.parametrize("name", QUIET)
def test_a_profile_leaves_all_as_it_was(name: str) -> None:
    model, inputs = MODELS[name]()
    before = everything(model, inputs)
    fmstats.profile(model, [inputs], progress=False)
    before.check()


@pytest.mark.parametrize("name", [n for n in MODELS if n not in ("a scripted part", "settings")])
def test_what_a_profile_leaves_in_caches_can_be_trained_with(name: str) -> None:
    model, inputs = MODELS[name]()
    parameters = dict(model.named_parameters())
    fmstats.profile(model, [(inputs,)], progress=False)
    after = dict(model.named_parameters())
    assert all(after[key] is parameters[key] for key in parameters)
    left = list(everything(model, inputs).tensors())
    assert not [path for path, t in left if t.is_inference() or isinstance(t, FakeTensor)]


def test_random_numbers_are_left_to_training() -> None:
    class Drawing(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x + torch.rand(4) + float(np.random.rand()))

    data = torch.utils.data.DataLoader(torch.randn(6, 4), 2, shuffle=True)
    model = nn.Sequential(Drawing(4, 4))
    before = everything(model)
    fmstats.profile(model, data, progress=False)
    before.check()


@pytest.mark.parametrize("training", [True, False])
def test_weights_that_are_merged_have_their_bits_again(training: bool) -> None:
    part = keeping_models.Adapter()
    model = nn.Sequential(part, nn.ReLU())
    model.train(training)
    part.train(not training)  # which the mode of the whole does not tell
    before = everything(model)
    fmstats.profile(model, [X], progress=False)
    before.check()


def test_the_numbers_are_those_of_the_model_itself() -> None:
    """What runs is a copy, and what it draws is not."""
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    shared = nn.Conv2d(3, 3, 3, padding=1)
    model = nn.Sequential(shared, nn.BatchNorm2d(3), shared).eval()
    x = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        want = model(x)[:, 1].amax((1, 2))
    top = fmstats.top_images(model, x, "1", 1, 2)
    assert top.layer == "1"
    scores = fmstats.top_images(model, x, "2", 1, 2)
    assert sorted(image.score for image in scores) == sorted(want.tolist())


def test_both_passes_meet_the_same_cache() -> None:
    """One that grows would be longer in the second, which counts what autograd keeps."""

    def grow(module: nn.Module, x: Tensor, cache: dict[str, Tensor]) -> Tensor:
        cache["x"] = torch.cat([cache["x"], x])
        return cache["x"]

    cache = {"x": torch.zeros(3, 4)}
    model = Doing(grow)
    kept = fmstats.analyze(model, X, cache).totals["saved_for_backward_bytes"]
    assert kept == 5 * 4 * 4
    assert cache["x"].shape == (3, 4)


def test_what_is_found_in_no_other_way_is_told() -> None:
    import sys

    sys.modules["hidden_cache"] = hidden = type(sys)("hidden_cache")
    hidden.seen = []
    model = Doing(lambda m, x: getattr(sys.modules["hidden" + "_cache"], "se" + "en").append(x))
    with pytest.warns(UserWarning, match=r"fake tensors of analyze\(\).*a list"):
        fmstats.analyze(model, X)
    hidden.seen.clear()
    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fmstats.analyze(nn.Linear(4, 4), X)
    del sys.modules["hidden_cache"]


def test_hidden_caches_of_functools_are_emptied() -> None:
    import functools
    import sys

    sys.modules["hidden_cache"] = hidden = type(sys)("hidden_cache")
    hidden.table = functools.lru_cache(4)(lambda n: torch.ones(n))
    model = Doing(lambda m, x: x * getattr(sys.modules["hidden" + "_cache"], "ta" + "ble")(4))
    fmstats.analyze(model, X)
    assert type(hidden.table(4)) is Tensor
    del sys.modules["hidden_cache"]
