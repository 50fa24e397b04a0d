"""Positions follow operations as NaN does: what a masked position reaches is left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from fmstats.operations.channel_flow import ChannelFlow
from fmstats.operations.numbers import Numbers
from fmstats.operations.position_flow import PositionFlow
from fmstats.operations.spreads import Part, Spread

SAMPLES, TIME, WIDTH, HEADS = 3, 4, 6, 2
MASK = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
WEIGHTS = torch.linspace(-1, 1, WIDTH * WIDTH).reshape(WIDTH, WIDTH)
ORDER = torch.tensor([2, 0, 1])
TAKEN = torch.tensor([[3, 0], [0, 2], [1, 1]])[..., None].expand(-1, -1, WIDTH)

Function = Callable[[Tensor], Tensor]


class Following(TorchFunctionMode):
    """It carries the positions of a tensor on to what is made of it."""

    def __init__(self, x: Tensor) -> None:
        super().__init__()
        self._flow = ChannelFlow()
        self.positions = self._flow.positions = PositionFlow(Numbers({"mask": MASK}))
        view = MASK[..., None].expand(SAMPLES, TIME, WIDTH)
        self.positions.note(x, (Part("mask", view),))

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        with torch._C.DisableTorchFunction():
            self._flow.follow(func, args, kwargs or {}, result, lambda: "")
        return result


def follow(function: Function) -> tuple[Tensor, Spread | None, PositionFlow]:
    """Return what a function makes of a tensor whose masked positions are NaN."""
    x = torch.linspace(1, 2, SAMPLES * TIME * WIDTH).reshape(SAMPLES, TIME, WIDTH)
    x[~MASK] = torch.nan
    with (mode := Following(x)):
        out = function(x)
    return out, mode.positions.spread_of(out), mode.positions


def pooled(x: Tensor) -> Tensor:
    """Two places of time for four: nothing tells which of them count."""
    return F.avg_pool1d(x.mT, 2).mT


def shifted(x: Tensor) -> Tensor:
    """As decoders make their inputs of those of the encoder."""
    out = x.new_zeros(x.shape)
    out[:, 1:] = x[:, :-1]
    return out


def split_heads(x: Tensor) -> Tensor:
    """(N, T, C) as (N * heads, T, C / heads)."""
    x = x.view(SAMPLES, TIME, HEADS, WIDTH // HEADS).transpose(1, 2)
    return x.reshape(SAMPLES * HEADS, TIME, WIDTH // HEADS)


def join_heads(x: Tensor) -> Tensor:
    x = x.view(SAMPLES, HEADS, TIME, WIDTH // HEADS).transpose(1, 2)
    return x.reshape(SAMPLES, TIME, WIDTH)


def linear(x: Tensor) -> Tensor:
    """The last dim of it is known to be channels."""
    return F.linear(x, WEIGHTS)


def scores(x: Tensor) -> Tensor:
    """Queries with NaN, and keys without."""
    return split_heads(x) @ split_heads(x).nan_to_num().mT


def weights(x: Tensor) -> Tensor:
    return split_heads(x) @ split_heads(x).mT


FOLLOWED: Mapping[str, Function] = {
    "add": lambda x: x + WEIGHTS[0],
    "linear": linear,
    "layer_norm": lambda x: F.layer_norm(x, (WIDTH,)),
    "transpose": lambda x: x.transpose(1, 2),
    "flatten": lambda x: x.flatten(0, 1),
    "roll": lambda x: x.roll(1, 1),
    "flip": lambda x: x.flip(1),
    "fliplr": lambda x: x.fliplr(),
    "flipud": lambda x: x.flipud(),
    "rot90": lambda x: x.rot90(2, (1, 0)),
    "frequencies of channels": lambda x: torch.fft.rfft(x, dim=-1),
    "copy_": lambda x: (x + 1).copy_(x[ORDER]),
    "complex numbers": lambda x: torch.view_as_real(
        torch.view_as_complex(x.unflatten(-1, (-1, 2))) * torch.ones(1, dtype=torch.complex64)
    ),
    "rows": lambda x: x[ORDER],
    "gather": lambda x: x.gather(1, TAKEN),
    "cat": lambda x: torch.cat([torch.ones(SAMPLES, 1, WIDTH), x], 1),
    "cat of single places": lambda x: torch.cat([x[:, t : t + 1] for t in range(TIME)], 1),
    "cat of weights": lambda x: torch.cat([x @ x.mT, x[:, ORDER] @ x.mT], 1),
    "cat of keys": lambda x: torch.cat([x @ x.mT, x @ x[:, ORDER].mT], 2),
    "stack": lambda x: torch.stack([x, x + 1], 1),
    "stack of places": lambda x: torch.stack([x[:, 1], x[:, 3]], 1),
    "stack of the last": lambda x: torch.stack([x[:, 2], x[:, 3]], 0),
    "repeat_interleave": lambda x: x.repeat_interleave(2, 0),
    "softmax of channels": lambda x: x.softmax(-1),
    "queries and keys": lambda x: x @ x.mT,
    "queries and keys by letters": lambda x: torch.einsum("nqc,nkc->nqk", x, x),
    "nanmean": lambda x: x.nanmean(1),
    "heads": lambda x: join_heads(split_heads(x)),
    "attention of heads": lambda x: join_heads(torch.bmm(scores(x), split_heads(x).nan_to_num())),
    "weights of heads": lambda x: weights(x).view(SAMPLES, HEADS, TIME, TIME),
    "heads of other samples": lambda x: split_heads(x)[HEADS:].view(SAMPLES - 1, HEADS, TIME, -1),
    "half of the places": lambda x: split_heads(x)[:, 1::2].reshape(SAMPLES, HEADS, 2, -1),
    "a place of each head": lambda x: split_heads(x)[2:4].diagonal(0, 0, 1).reshape(-1, HEADS),
    "half of the heads": lambda x: split_heads(x)[::HEADS],
    "half of a sample": lambda x: split_heads(x)[1:-1].view(SAMPLES - 1, HEADS, TIME, -1),
    "latents and keys": lambda x: torch.ones(2, WIDTH) @ x.mT,
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_positions_are_left_out_where_nan_goes(name: str) -> None:
    out, spread, flow = follow(FOLLOWED[name])
    assert spread is not None
    counts = flow.numbers.combined(spread, out.device).expand(out.shape)
    assert torch.equal(counts, ~out.isnan())


@pytest.mark.parametrize(
    ("name", "dim"),
    [
        ("heads", -1),
        ("attention of heads", -1),
        ("weights of heads", 1),
        ("heads of other samples", 1),
    ],
)
def test_all_heads_have_the_same_positions(name: str, dim: int) -> None:
    """So the channels of several heads, or heads as channels, have one mask."""
    _, spread, _ = follow(FOLLOWED[name])
    assert spread is not None
    assert not any(part.varies(dim) for part in spread)


def test_channels_of_several_places_count_where_all_of_these_do() -> None:
    out, spread, flow = follow(lambda x: torch.cat([linear(x)[:, 1], linear(x)[:, 2]], 1))
    assert spread is not None
    counts = flow.numbers.combined(spread, out.device)
    assert counts.tolist() == [[True], [False], [True]]


# What is made of operations that lose positions, and of others that have some.
LOST: Mapping[str, Function] = {
    "more ways than are kept": lambda x: sum(
        (x[:, [t, *range(t), *range(t + 1, TIME)]] for t in range(1, TIME)),
        x.roll(1, 1) + x.flip(1),
    ),
    "frequencies": lambda x: torch.fft.fft(x, dim=1),
    "take": lambda x: x.take(torch.arange(x.numel()).flip(0).view(x.shape)),
    "fftshift": lambda x: torch.fft.fftshift(x, 1),
    "product": lambda x: pooled(x) @ x.mT,
    "attention": lambda x: F.scaled_dot_product_attention(pooled(x), x, x),
    "attention of what is made of it": lambda x: (pooled(x) + 1) @ x.mT,
    "attention of what is written into": lambda x: shifted(x) @ x.mT,
    "letters": lambda x: torch.einsum("nqc,nkc->nqk", pooled(x), x),
    "cat": lambda x: torch.cat([x, pooled(x)], 1),
    "cat behind a class": lambda x: torch.cat([x[:, :1], pooled(x)], 1),
}


@pytest.mark.parametrize("name", LOST)
def test_what_was_lost_counts_nowhere(name: str) -> None:
    assert follow(LOST[name])[1] is None
