"""A layer has one name, whatever is wrapped around it or computes its weights, for every tool."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from picture_models import hooks_of, image, wave
from torch import Tensor, nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.utils import parametrizations, parametrize

import fmstats
from fmstats.models.wrappers import unwrap
from fmstats.pictures.hierarchy import find_stages
from fmstats.pictures.inputs import read_image


class Learned(nn.Module):
    """A parametrization with parameters, and a module, of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.gain, self.mix = nn.Parameter(torch.ones(4, 1, 1, 1)), nn.Linear(3, 3)

    def forward(self, weight: Tensor) -> Tensor:
        return self.gain * self.mix(weight)


def learned(layer: nn.Module) -> nn.Module:
    parametrize.register_parametrization(layer, "weight", Learned())
    return layer


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "checkpoint_wrapper": checkpoint_wrapper,
    "DataParallel": nn.DataParallel,
    "torch.compile": functools.partial(torch.compile, backend="eager"),
    "compile()": lambda layer: layer.compile(backend="eager") or layer,
    "both": lambda layer: checkpoint_wrapper(torch.compile(layer, backend="eager")),
}
COMPUTED: dict[str, Callable[[nn.Module], nn.Module]] = {
    "weight_norm": parametrizations.weight_norm,
    "spectral_norm": parametrizations.spectral_norm,
    "a parametrization with modules": learned,
    "two": lambda layer: parametrizations.spectral_norm(parametrizations.weight_norm(layer)),
    "wrapped": lambda layer: checkpoint_wrapper(parametrizations.weight_norm(layer)),
}
EVERY = pytest.mark.parametrize("name", [*WRAPPERS, *COMPUTED])

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own compiler's


def layers() -> tuple[nn.Conv2d, nn.Module, nn.Module]:
    conv = nn.Conv2d(3, 4, 3)
    with torch.no_grad():
        conv.weight.copy_(wave(4, 3, 3, 3))
        conv.bias.copy_(wave(4))
    return conv, nn.ReLU(), nn.MaxPool2d(2)


def made(name: str) -> nn.Sequential:
    conv, *others = layers()
    wrap = WRAPPERS.get(name) or COMPUTED[name]
    return nn.Sequential(wrap(conv), *others).eval()


@EVERY
@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_analyze(name: str, device: str) -> None:
    model, plain = made(name), nn.Sequential(*layers())
    x = torch.zeros(1, 3, 8, 8)
    found = fmstats.analyze(model, x, device=device)
    expected = fmstats.analyze(plain, x, device=device)
    assert [row.name for row in found.rows] == ["0", "1", "2"]
    assert list(found.parts) == ["0", "1", "2", "(model)"]
    for field in ("output_shape", "activation_elements", "receptive_field", "stride", "calls"):
        assert [row[field] for row in found.rows] == [row[field] for row in expected.rows], field
    stages = [(stage.resolution, stage.layers) for stage in found.stages]
    assert stages == [(stage.resolution, stage.layers) for stage in expected.stages]
    assert found.totals["params"] == sum(p.numel() for p in model.parameters())
    assert sum(row.params for row in found.rows) == found["0"].params == found.totals["params"]
    assert hooks_of(model) == 0
    if name in WRAPPERS:
        assert found.rows == expected.rows


@EVERY
def test_an_analysis_joins_a_profile(name: str) -> None:
    pytest.importorskip("pandas", reason="needs pandas")
    model, x = made(name), torch.randn(2, 3, 8, 8)
    with fmstats.track(model) as tracker:
        model(x)
    profile = tracker.stats()
    joined = fmstats.analyze(model, x).join(profile)
    assert joined["name"].tolist() == list(profile) == ["0", "1", "2"]
    assert joined["count"].tolist() == joined["activation_elements"].tolist()


@EVERY
def test_visualize(name: str) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    model = made(name)
    title = fmstats.visualize(model, image(), "0").texts[0].get_text()
    kind = type(unwrap(model[0])).__name__
    assert title == f"0 ({kind})\n4 channels, 14x14"
    assert hooks_of(model) == 0


@EVERY
def test_visualize_hierarchy(name: str) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    model = made(name)
    texts = [text.get_text() for text in fmstats.visualize_hierarchy(model, image()).texts]
    assert "Sequential: 2 stages" in texts
    assert {"1", "2"} <= set(texts)
    fmstats.visualize_hierarchy(model, image(), ["0"])
    values = [stage.values for stage in find_stages(model, read_image(image()))]
    expected = model(image()[None])[0].detach().numpy()
    assert (values[-1] == expected).all()


@EVERY
def test_top_images(name: str) -> None:
    model, data = made(name), torch.stack([image() * n for n in (1, 3, 2)])
    found = fmstats.top_images(model, data, "0", 1)
    expected = unwrap(model[0])(data)[:, 1].detach().amax((1, 2))
    assert found.type == type(unwrap(model[0])).__name__
    best = expected.argsort(descending=True)
    assert [top.index for top in found] == best.tolist()
    assert [top.score for top in found] == expected[best].tolist()


@pytest.mark.parametrize("name", WRAPPERS)
def test_a_wrapper_around_the_model(name: str) -> None:
    model, x = WRAPPERS[name](nn.Sequential(*layers()).eval()), torch.zeros(1, 3, 16, 16)
    found = fmstats.analyze(model, x)
    assert [row.name for row in found.rows] == ["0", "1", "2"]
    plain = fmstats.analyze(nn.Sequential(*layers()), x)
    assert found.rows == plain.rows
    assert found.totals["params"] == 112
    kept = "saved_for_backward_bytes"
    if "checkpoint" in name or name == "both":
        assert found.totals[kept] < plain.totals[kept]
    else:
        assert found.totals[kept] == plain.totals[kept]
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    fmstats.visualize(model, image(), "1")
    fmstats.visualize_hierarchy(model, image())
    assert len(fmstats.top_images(model, x, "0", 1)) == 1


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_nothing_is_compiled(device: str) -> None:
    graphs = []

    def backend(graph: torch.fx.GraphModule, _inputs: object) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    conv, *others = layers()
    model = nn.Sequential(torch.compile(conv, backend=backend, fullgraph=True), *others).eval()
    plain = nn.Sequential(conv, *others)
    x = image()[None]
    found = fmstats.analyze(model, x, device=device)
    assert found.totals == fmstats.analyze(plain, x, device=device).totals
    fmstats.top_images(model, x, "0", 1)
    assert not graphs
    with torch.no_grad():
        model(x)  # is compiled as before, with neither hooks nor stand-ins in its graph
    assert len(graphs) == 1


def test_parameters_that_computed_weights_share_count_once() -> None:
    one, other = (parametrizations.weight_norm(nn.Conv2d(4, 4, 3, bias=False)) for _ in range(2))
    other.parametrizations.weight.original1 = one.parametrizations.weight.original1
    model = nn.Sequential(one, other)
    found = fmstats.analyze(model, input_size=(1, 4, 8, 8))
    assert [row.params for row in found.rows] == [4 + 144, 4]
    assert found.totals["params"] == sum(p.numel() for p in model.parameters()) == 152


def test_what_weights_are_computed_with_is_work_of_their_layer() -> None:
    model = nn.Sequential(learned(nn.Conv2d(3, 4, 3)))
    found = fmstats.analyze(model, input_size=(1, 3, 8, 8))
    assert [(row.name, row.macs, row.activation_elements) for row in found.rows] == [
        ("0", 36 * 4 * 27 + 36 * 9, 144)
    ]


def test_a_layer_under_two_names_wrapped_is_found_by_both() -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    shared = checkpoint_wrapper(nn.Conv2d(3, 3, 3))
    model = nn.Sequential(shared, nn.Sequential(shared))
    for name in ("0", "1.0"):
        title = fmstats.visualize(model, image(), name).texts[0].get_text()
        assert title.startswith(f"{name} (Conv2d)\n3 channels, 12x12")
