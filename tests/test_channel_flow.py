"""Where channels go: through single operations, chains of them, and the layers of models."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from compat_models import Permute
from torch import Tensor, nn

import fmstats
from fmstats.operations import rules
from fmstats.operations.channel_flow import ChannelFlow, Origin
from fmstats.operations.functional import JOINS, OPERATIONS, operation_of
from fmstats.operations.labels import Label, one_dim, reshape
from fmstats.pictures.capture import watch

C = 6


def follow(x: Tensor, label: Label, function: Callable[..., object], *args: object) -> Label | None:
    """The label of what a function of torch makes of a tensor with a label."""
    flow = ChannelFlow()
    flow.note(x, Origin(label, "made"))
    out = function(x, *args)
    first = out[0] if isinstance(out, (tuple, list)) else out
    assert isinstance(first, Tensor)
    flow.follow(function, (x, *args), {}, out, lambda: "here")
    origin = flow.origin_of(first)
    return None if origin is None else origin.label


def numbered(shape: tuple[int, ...], dim: int) -> Tensor:
    """A tensor whose elements are the numbers of their channels."""
    sizes = [1] * len(shape)
    sizes[dim] = shape[dim]
    return torch.arange(float(shape[dim])).reshape(sizes).expand(shape).clone()


def varies(x: Tensor) -> Label:
    """The dims along which a tensor varies."""
    return tuple(d for d in range(x.dim()) if (x != x.narrow(d, 0, 1)).any())


# Operations that only move elements: the channels are where the numbers of `numbered` vary.
MOVES: list[tuple[Callable[..., object], tuple[object, ...]]] = [
    (torch.permute, ((2, 0, 3, 1),)),
    (Tensor.permute, (3, 1, 0, 2)),
    (Tensor.transpose, (1, 2)),
    (torch.swapaxes, (-1, 0)),
    (torch.movedim, (1, -1)),
    (torch.movedim, ((0, 1), (2, 0))),
    (Tensor.unsqueeze, (1,)),
    (Tensor.unsqueeze, (-1,)),
    (torch.select, (0, 1)),
    (torch.select, (-1, 1)),
    (torch.narrow, (3, 0, 2)),
    (torch.flip, ((0, 2),)),
    (torch.roll, (1, 1)),
    (Tensor.expand, (7, 2, C, 3, 4)),
    (Tensor.repeat, (2, 1, 1, 1, 1)),
    (Tensor.repeat, (1, 2, 1, 2)),
    (torch.tile, ((2, 1),)),
    (torch.unbind, (0,)),
    (torch.unbind, (2,)),
    (torch.chunk, (2, 1)),
    (torch.split, (1, 2)),
    (Tensor.unfold, (3, 2, 1)),
    (torch.flatten, (2,)),
    (torch.flatten, (0, 0)),
    (Tensor.unflatten, (3, (2, 2))),
    (Tensor.unflatten, (1, (2, 3))),
    (torch.unflatten, (1, (C, 1))),
    (Tensor.view, (2, C, 12)),
    (Tensor.reshape, (2, 3, 2, 3, 4)),
    (Tensor.reshape, (1, 2, C, 3, 4)),
    (torch.mean, (0,)),
    (torch.mean, ((2, 3),)),
    (torch.sum, ((0, -1), True)),
    (torch.amax, (1,)),
    (Tensor.__getitem__, (0,)),
    (Tensor.__getitem__, ((slice(None), slice(1, 5), None, 0),)),
    (Tensor.__getitem__, ((..., 0),)),
    (Tensor.__getitem__, ((..., None),)),
    (Tensor.__getitem__, ((0, ..., 0),)),
    (Tensor.__getitem__, ((torch.tensor([1, 0]),),)),
    (Tensor.__getitem__, ((slice(None), slice(None), torch.tensor([0, 2])),)),
    (Tensor.__getitem__, ((torch.tensor([0, 1]), slice(None), torch.tensor([0, 2])),)),
    (Tensor.__getitem__, ((0, slice(None), torch.tensor([0, 2])),)),
    (Tensor.__getitem__, ((slice(None), slice(None), torch.ones(3, 4, dtype=torch.bool)),)),
    (Tensor.contiguous, ()),
    (F.relu, ()),
    (torch.mul, (2.0,)),
]


@pytest.mark.parametrize("dim", range(4))
@pytest.mark.parametrize(("function", "args"), MOVES)
def test_what_moves_elements_moves_the_label(
    function: Callable[..., object], args: tuple[object, ...], dim: int
) -> None:
    x = numbered((2, C, 3, 4), dim)
    out = function(x, *args)
    first = out[0] if isinstance(out, (tuple, list)) else out
    assert isinstance(first, Tensor)
    label = follow(x, (dim,), function, *args)
    assert label is not None
    single = {d for d in label if first.shape[d] == 1}  # where nothing can vary
    assert set(varies(first)) - {dim if dim == 0 else -1} <= set(label)
    assert set(label) - single <= set(varies(first))


@pytest.mark.parametrize(
    ("before", "after", "label", "want"),
    [
        ((2, 6, 3, 4), (2, 6, 12), (1,), (1,)),
        ((2, 6, 3, 4), (2, 72), (1,), (1,)),  # the features of a flattened feature map
        ((2, 3, 4, 6), (6, 4, 6), (3,), (2,)),
        ((2, 5, 6), (2, 5, 2, 3), (2,), (2, 3)),  # heads
        ((2, 5, 2, 3), (2, 5, 6), (2, 3), (2,)),
        ((2, 3, 2, 5, 5), (2, 6, 5, 5), (1, 2), (1,)),  # a channel shuffle, put together again
        ((2, 1), (2,), (1,), ()),  # one number a sample
        ((2, 6), (12,), (1,), ()),  # channels among the batch
        ((6, 5), (30,), (0,), (0,)),  # of one sample
        ((5, 2, 6), (5, 4, 3), (2,), (2,)),  # (L, N, E) to (L, N * heads, E / heads)
        ((2, 1, 4, 4), (2, 1, 16), (1,), (1,)),
        ((1, 1, 4, 4), (1, 1, 16), (1,), (1,)),
        ((2, 6), (2, 6, 1, 1), (1,), (1,)),
        ((2, 6, 1, 1), (2, 6), (1,), (1,)),
        ((2, 1), (2, 1, 1, 1), (1,), (1,)),
        ((2, 9, 1), (2, 9), (2,), ()),
        ((4, 6), (6, 4), (1,), (1,)),  # not the same elements side by side
        # Heads among a batch of one are lost as among a larger one; their own channels are left.
        ((1, 2, 5, 3), (2, 5, 3), (1, 3), (2,)),
        ((3, 2, 5, 3), (6, 5, 3), (1, 3), (2,)),
        ((1, 2, 5, 5), (2, 5, 5), (1,), ()),
        ((1, 6, 4, 4), (2, 3, 4, 4), (1,), (1,)),  # samples were groups of a convolution
        ((6, 4, 4), (2, 3, 4, 4), (0,), (0, 1)),  # groups of the channels of one sample
    ],
)
def test_reshapes(
    before: tuple[int, ...], after: tuple[int, ...], label: Label, want: Label
) -> None:
    assert reshape(label, before, after) == want


def test_chains_of_moves() -> None:
    """Whatever is done to the dims one after another, the label is where the numbers vary."""
    rng = random.Random(0)
    moved = 0
    for _ in range(300):
        shape = tuple(rng.sample((2, 3, 4, 5, 6, 7), 4))
        dim = rng.randrange(4)
        x = numbered(shape, dim)
        flow = ChannelFlow()
        flow.note(x, Origin((dim,), "made"))
        for _ in range(rng.randrange(1, 6)):
            function, args = random_move(rng, x)
            y = function(x, *args)
            flow.follow(function, (x, *args), {}, y, lambda: "here")
            x = y
        origin = flow.origin_of(x)
        assert origin is not None
        assert origin.label == varies(x)
        moved += origin.label != (dim,)
    assert moved > 100


def random_move(rng: random.Random, x: Tensor) -> tuple[Callable[..., Tensor], tuple[object, ...]]:
    order = list(range(x.dim()))
    rng.shuffle(order)
    split = [d for d in order if x.shape[d] in (4, 6)]
    moves: list[tuple[Callable[..., Tensor], tuple[object, ...]]] = [
        (torch.permute, (order,)),
        (torch.transpose, (order[0], order[-1])),
        (torch.unsqueeze, (rng.randrange(x.dim() + 1),)),
        (torch.squeeze, ()),
    ]
    moves += [(torch.unflatten, (d, (2, x.shape[d] // 2))) for d in split[:1]]
    return rng.choice(moves)


@pytest.mark.parametrize(
    ("left", "first", "right", "second", "want"),
    [
        ((2, 4, 5, 6), (1, 3), (2, 4, 6, 5), (1, 2), (1,)),  # q @ k.T: heads are left
        ((2, 5, 6), (2,), (2, 6, 5), (1,), ()),  # of one head: one channel
        ((2, 4, 5, 5), (1,), (2, 4, 5, 6), (1, 3), (1, 3)),  # the weights @ v
        ((2, 5, 5), (), (2, 5, 6), (2,), (2,)),
        ((2, 5, 6), (2,), (6, 7), None, (2,)),  # by weights
        ((7, 5), None, (2, 5, 6), (2,), (2,)),  # tokens mixed by weights
        ((7, 6), None, (2, 6, 5), (1,), (1,)),
        ((2, 6), (1,), (6, 2), (0,), ()),  # how similar samples are
        ((6,), (0,), (6, 3), None, (0,)),
        ((2, 1, 6), (2,), (2, 6, 7), None, (2,)),  # by the weights of an expert
        ((2, 6, 5), (1,), (2, 5, 5), None, (1,)),
    ],
)
def test_products(
    left: tuple[int, ...],
    first: Label | None,
    right: tuple[int, ...],
    second: Label | None,
    want: Label,
) -> None:
    flow = ChannelFlow()
    a, b = torch.randn(left), torch.randn(right)
    for x, label in ((a, first), (b, second)):
        if label is not None:
            flow.note(x, Origin(label, "made"))
    for function in (torch.matmul, Tensor.matmul):
        out = function(a, b)
        flow.follow(function, (a, b), {}, out, lambda: "here")
        origin = flow.origin_of(out)
        assert origin is not None
        assert origin.label == want


def test_einsum() -> None:
    flow = ChannelFlow()
    q, k = torch.randn(2, 4, 5, 6), torch.randn(2, 4, 7, 6)
    w = torch.randn(6, 9)
    for x in (q, k):
        flow.note(x, Origin((1, 3), "made"))
    weights = torch.einsum("bhid,bhjd->bhij", q, k)
    flow.follow(torch.einsum, ("bhid,bhjd->bhij", q, k), {}, weights, lambda: "here")
    new = torch.einsum("bhid, de -> bhie", q, w)
    flow.follow(torch.einsum, ("bhid, de -> bhie", q, w), {}, new, lambda: "here")
    near = torch.randn(2, 3, 5)  # of no layer: what it multiplies keeps its channels
    rows = torch.randn(2, 5, 6)
    flow.note(rows, Origin((2,), "made"))
    moved = torch.einsum("nvw,nwc->nvc", near, rows)
    flow.follow(torch.einsum, ("nvw,nwc->nvc", near, rows), {}, moved, lambda: "here")
    labels = [flow.origin_of(x).label for x in (weights, new, moved)]  # type: ignore[union-attr]
    assert [one_dim(label) for label in labels] == [1, 3, 2]


def test_copies_of_channels_in_the_first_dim() -> None:
    x = torch.randn(2, 5, 4)
    assert follow(x, (0, 2), Tensor.repeat, 1, 3, 1) == (0, 2)
    assert follow(x, (0, 2), Tensor.repeat, 3, 1, 1) == (2,)
    assert follow(x, (0, 2), Tensor.repeat, 3, 1, 1, 1) == (1, 3)


@pytest.mark.parametrize(
    ("shape", "index", "want"),
    [
        ((9, 2), torch.arange(12).view(3, 4) % 9, (2,)),  # as of relative positions: by head
        ((9, 2), torch.ones(9, dtype=torch.bool), None),
        ((9, 2), slice(0, 4), None),
        ((9, 2), (slice(None), torch.tensor([0, 1])), None),
        ((9, 2, 3), torch.tensor([0, 1]), None),
    ],
)
def test_rows_of_a_table_of_weights(
    shape: tuple[int, ...], index: object, want: Label | None
) -> None:
    flow, weights = ChannelFlow(), nn.Parameter(torch.randn(shape))
    for table, expected in ((weights, want), (weights.detach(), None)):
        rows = table[index]  # type: ignore[index]
        flow.follow(Tensor.__getitem__, (table, index), {}, rows, lambda: "here")
        origin = flow.origin_of(rows)
        assert (None if origin is None else origin.label) == expected


@pytest.mark.parametrize("name", sorted(OPERATIONS | JOINS))
def test_every_operation_that_is_a_layer_has_a_rule(name: str) -> None:
    assert rules.is_known(name)
    function = getattr(F, name, getattr(torch, name, None))
    assert operation_of(function) == name
    assert rules.is_known(rules.name_of(function))


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (F.hardswish, ()),
        (F.prelu, (torch.ones(C),)),
        (F.threshold, (0.0, 0.0)),
        (torch.divide, (2.0,)),
        (torch.fft.fftn, ()),
        (torch.fft.rfft2, ()),
        (torch.linalg.norm, (2, 0)),
        (F.conv_transpose2d, (torch.ones(C, 7, 2, 2),)),
    ],
)
def test_operations_of_other_names(
    function: Callable[..., object], args: tuple[object, ...]
) -> None:
    dim = 0 if getattr(function, "__name__", "") == "linalg_norm" else 1
    assert rules.is_known(rules.name_of(function))
    assert follow(torch.randn(2, C, 3, 4), (1,), function, *args) == (dim,)


class Chain(nn.Module):
    """Layers and functions of tensors, one after another; the layers are named 0, 1, ..."""

    def __init__(self, *steps: nn.Module | Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.steps = [s if isinstance(s, nn.Module) else Lambda(s) for s in steps]
        for number, step in enumerate(s for s in steps if isinstance(s, nn.Module)):
            self.add_module(str(number), step)

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x


class Lambda:
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        self.function = function

    def __call__(self, x: Tensor) -> Tensor:
        return self.function(x)


class Attention(nn.Module):
    """Attention over the pixels of an image, with its maps before and after dropout."""

    def __init__(self, heads: int | None) -> None:
        super().__init__()
        self.heads, self.qk = heads, nn.Linear(8, 16)
        self.drop, self.act = nn.Dropout(0.1), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)
        q, k = self.qk(x).chunk(2, -1)
        if self.heads is not None:
            q, k = (t.unflatten(2, (self.heads, -1)).transpose(1, 2) for t in (q, k))
        maps = self.drop((q @ k.transpose(-2, -1)).softmax(-1))
        return self.act(maps @ (x if self.heads is None else q))


class Linear4Bit(nn.Module):
    """A linear layer of another package, whose weights are no parameter of a known shape."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.packed = nn.Parameter(torch.randn(out_features * in_features))
        self.shape = out_features, in_features

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.packed.view(self.shape))


def embed(width: int) -> Chain:
    return Chain(
        nn.Conv2d(3, width, 8, 8), lambda x: x.flatten(2).transpose(1, 2), nn.Dropout(), nn.GELU()
    )


def images(batch: int, channels: int = 3, size: int = 64) -> Tensor:
    return torch.randn(batch, channels, size, size)


# What is right, by layer: a dim, or None where all is one channel.
CASES: dict[str, tuple[Callable[[], nn.Module], Tensor, dict[str, int | None]]] = {
    "patches": (lambda: embed(64), images(32), {"1": 2, "2": 2}),
    "patches, as many as the batch": (lambda: embed(64), images(64), {"1": 2, "2": 2}),
    "patches, a batch as the width": (lambda: embed(16), images(16), {"1": 2, "2": 2}),
    "video patches": (
        lambda: Chain(
            nn.Conv3d(3, 8, 4, 4), lambda x: x.flatten(2).transpose(1, 2), nn.Dropout(), nn.GELU()
        ),
        torch.randn(8, 3, 8, 16, 16),
        {"0": 1, "1": 2, "2": 2},
    ),
    "attention maps of one head": (
        lambda: Chain(nn.Conv2d(3, 8, 8, 8), Attention(None)),
        images(8),
        {"0": 1, "1.drop": None, "1.act": 2},
    ),
    "attention maps of heads": (
        lambda: Chain(nn.Conv2d(3, 8, 16, 16), Attention(2)),
        images(16, size=64),
        {"0": 1, "1.drop": 1, "1.act": 1},
    ),
    "a length as the width": (
        lambda: Chain(nn.Conv2d(3, 8, 8, 8), Attention(4)),
        torch.randn(8, 3, 8, 64),
        {"1.drop": 1},
    ),
    "a gate of half the width": (
        lambda: Chain(nn.Linear(5, 16), nn.GLU(), nn.Dropout()),
        torch.randn(4, 8, 5),
        {"0": 2, "1": 2, "2": 2},
    ),
    "a gate of channels": (
        lambda: Chain(nn.Conv1d(4, 16, 1), nn.GLU(1), nn.Dropout()),
        torch.randn(16, 4, 8),
        {"0": 1, "1": 1, "2": 1},
    ),
    "channels last": (
        lambda: Chain(nn.Conv2d(3, 8, 4, 4), Permute([0, 2, 3, 1]), nn.GELU(), nn.LayerNorm(8)),
        images(2, size=32),
        {"0": 1, "1": 3, "2": 3, "3": 3},
    ),
    "channels last and back": (
        lambda: Chain(
            nn.Conv2d(3, 8, 4, 4), Permute([0, 2, 3, 1]), nn.Linear(8, 8), Permute([0, 3, 1, 2])
        ),
        images(8, size=32),
        {"1": 3, "2": 3, "3": 1},
    ),
    "one number a sample": (
        lambda: Chain(nn.Linear(4, 1), lambda x: x.squeeze(1), nn.Sigmoid()),
        torch.randn(7, 4),
        {"1": None},
    ),
    "one number a sample, flattened": (
        lambda: Chain(nn.Linear(4, 1), nn.Flatten(0, 1), nn.Sigmoid()),
        torch.randn(7, 4),
        {"1": None, "2": None},
    ),
    "features": (
        lambda: Chain(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout()),
        images(8, size=16),
        {"2": 1, "3": 1},
    ),
    "features of places": (
        lambda: Chain(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Dropout()),
        images(4, size=8),
        {"1": 1, "2": 1},
    ),
    "a linear layer of another package": (
        lambda: Chain(Linear4Bit(8, 12), nn.Dropout()),
        torch.randn(5, 12, 8),
        {"0": 2, "1": 2},
    ),
    "a shuffle of channels": (
        lambda: Chain(nn.Conv2d(3, 8, 1), nn.ChannelShuffle(2), nn.ReLU()),
        images(2, size=8),
        {"1": 1, "2": 1},
    ),
    "groups": (
        lambda: Chain(nn.Conv2d(3, 8, 1), lambda x: x.unflatten(1, (2, 4)), nn.ReLU()),
        images(2, size=8),
        {"1": 1},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_channels_of_layers(name: str) -> None:
    torch.manual_seed(0)
    build, x, want = CASES[name]
    model = build().eval()
    with torch.no_grad():
        plain = model(x)
        with fmstats.track(model) as tracker:
            watched, later = model(x), model(x)
    assert torch.equal(watched, plain)
    assert torch.equal(later, plain)
    rows = {row.layer: row for row in tracker.stats().info.values()}
    assert {layer: rows[layer].channel_dim for layer in want} == want
    assert not any("guess" in row.channels for row in tracker.coverage())


@pytest.mark.parametrize("name", ["one number a sample", "one number a sample, flattened"])
def test_a_smaller_last_batch_is_one_channel_too(name: str) -> None:
    build, x, want = CASES[name]
    model = build()
    with fmstats.track(model, on_error="raise") as tracker:
        model(x)
        model(x[:3])
    for layer in want:
        row = tracker.stats().info[layer]
        assert row.stats.channels == 1
        assert row.stats.count.tolist() == [10]


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_losses_a_sample_are_one_channel(reduction: str) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.loss = nn.Linear(4, 3), nn.CrossEntropyLoss(reduction=reduction)

        def forward(self, x: Tensor) -> Tensor:
            return self.loss(self.head(x), torch.zeros(len(x), dtype=torch.long))

    model = Model()
    with fmstats.track(model) as tracker:
        model(torch.randn(6, 4))
    info = tracker.stats().info
    assert ("loss" in info) == (reduction == "none")
    assert reduction == "mean" or info["loss"].channel_dim is None


def test_the_gradient_has_its_channels_where_the_output_has() -> None:
    model = embed(16)
    with fmstats.track(model, of="grad_output") as tracker:
        model(images(16)).sum().backward()
    assert {k: row.channel_dim for k, row in tracker.stats().info.items()} == {
        "0": 1,
        "1": 2,
        "2": 2,
    }


def test_inputs_have_their_channels_where_they_come_from() -> None:
    model = embed(16)
    with fmstats.track(model, of="input") as tracker:
        model(images(16))
    info = tracker.stats().info
    assert [info[name].channel_dim for name in ("0", "1", "2")] == [1, 2, 2]


def test_coverage_tells_how_each_dim_was_found() -> None:
    model = Chain(nn.ReLU(), nn.Conv2d(3, 4, 1), nn.ReLU())
    with fmstats.track(model, channel_dim={"1": 0}) as tracker:
        model(images(2, size=4))
    found = {row.name: row.channels for row in tracker.coverage()}
    assert found["1"] == "dim 0 as asked"
    assert found["2"] == "dim 1 from '1'"
    assert found["0"].startswith("dim 1 a guess")


def test_passes_are_watched_once_a_kind() -> None:
    model = embed(8)
    seen = []
    with pytest.MonkeyPatch.context() as patch, fmstats.track(model):
        patch.setattr(
            "fmstats.operations.watching.ChannelFlow",
            lambda: (seen.append(model.training), ChannelFlow())[1],
        )
        for batch in (2, 2, 3, 5):
            model(images(batch))
        model.eval()
        model(images(2))
        model(images(2))
    assert seen == [True, False]


def test_a_watched_pass_that_fails_leaves_nothing_behind() -> None:
    class Failing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.fails = nn.Linear(3, 3), True

        def forward(self, x: Tensor) -> Tensor:
            x = self.layer(x)
            if self.fails:
                raise RuntimeError("of the model's own")
            return x

    model = Failing()
    with fmstats.track(model) as tracker:
        with pytest.raises(RuntimeError, match="of the model's own"):
            model(torch.randn(2, 3))
        assert torch._C._len_torch_function_stack() == 0
        model.fails = False
        model(torch.randn(2, 3))
    assert torch._C._len_torch_function_stack() == 0
    assert not torch.nn.modules.module._global_forward_hooks
    assert tracker.stats()["layer"].count.tolist() == [4] * 3


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("tracked", [True, False])
def test_the_fast_paths_of_transformers_stay(training: bool, tracked: bool) -> None:
    """Some modules of torch take another path where a mode is active, which rounds otherwise."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)
    model = nn.Sequential(nn.Linear(16, 16), nn.TransformerEncoder(layer, 2), nn.Linear(16, 4))
    model.train(training)
    x = torch.randn(3, 5, 16)
    with torch.no_grad():
        include = None if tracked else ["0", "2"]
        with fmstats.track(model, include) as tracker:
            first, second = model(x), model(x)
        plain = model(x)
    assert torch.equal(first, second)
    if not tracked:
        assert torch.equal(first, plain)
    assert {row.channel_dim for row in tracker.stats().info.values() if len(row.shape) > 2} == {2}


def test_pictures_read_the_same_channels() -> None:
    """A width that the batch has, too, and attention maps without heads, which are one channel."""
    torch.manual_seed(0)
    seen: dict[str, tuple[tuple[int, ...], int]] = {}
    model = nn.Sequential(embed(16), nn.Linear(16, 8)).eval()
    for run, x in ((model, images(16)), (CASES["attention maps of one head"][0](), images(8))):
        names = ["0.1", "0.2"] if run is model else ["1.drop", "1.act"]
        with watch(run, names, lambda name, x, dim: seen.update({name: (tuple(x.shape), dim)})):
            run(x)
    assert {name: dim for name, (_, dim) in seen.items()} == {
        **{"0.1": 2, "0.2": 2},
        **{"1.drop": 1, "1.act": 2},
    }
    assert seen["1.drop"][0][:2] == (8, 1)
