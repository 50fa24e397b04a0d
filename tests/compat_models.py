"""Models as people write them, and what independent hooks and two passes in float64 say of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from tolerances import ACCURACY, assert_equal_states
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from fmstats.profiles.profile import Profile
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds


class ResidualBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1, self.act = nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(self.act(self.bn1(self.conv1(x))))


class DenseBlock(nn.Module):
    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, growth, 3, padding=1)
        self.second = nn.Conv2d(channels + growth, growth, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x, self.first(x)], 1)
        return torch.cat([x, self.second(x)], 1)


class UNet3d(nn.Module):
    """Two levels, (N, C, D, H, W) or without N, with a skip by concatenation."""

    def __init__(self, norm: type[nn.Module] = nn.InstanceNorm3d) -> None:
        super().__init__()

        def convs(inputs: int, outputs: int) -> nn.Sequential:
            conv = nn.Conv3d(inputs, outputs, 3, padding=1)
            return nn.Sequential(conv, norm(outputs), nn.PReLU())

        self.enter, self.pool, self.low = convs(1, 5), nn.MaxPool3d(2), convs(5, 7)
        self.up = nn.ConvTranspose3d(7, 5, 2, stride=2)
        self.leave, self.drop = convs(10, 5), nn.Dropout3d()
        self.head = nn.Conv3d(5, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x)
        y = self.up(self.low(self.pool(x)))
        return self.head(self.drop(self.leave(torch.cat([x, y], -4))))


def tensors_in(output: object) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for part in output.values():
            yield from tensors_in(part)
    elif isinstance(output, (tuple, list)):
        for part in output:
            yield from tensors_in(part)


def leaves_of(model: nn.Module, name: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Modules without children; parametrizations are none."""
    children = [
        (child_name, child)
        for child_name, child in model.named_children()
        if not (child_name == "parametrizations" and is_parametrized(model))
    ]
    if not children:
        yield name or "(model)", model
    for child_name, child in children:
        yield from leaves_of(child, f"{name}.{child_name}" if name else child_name)


def captured(
    model: nn.Module,
    run: Callable[[], object],
    modules: Mapping[str, nn.Module] | None = None,
) -> tuple[dict[str, list[Tensor]], list[Tensor]]:
    """In float64 each first float tensor that modules give, by name; and what the model gives."""
    seen: dict[str, list[Tensor]] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: object, output: object) -> None:
            found = [y for y in tensors_in(output) if y.is_floating_point()]
            if found:
                seen.setdefault(name, []).append(found[0].detach().double().clone())

        return hook

    chosen = dict(leaves_of(model)) if modules is None else modules
    handles = [module.register_forward_hook(keep(name)) for name, module in chosen.items()]
    try:
        outputs = [y.clone() for y in tensors_in(run())]
    finally:
        for handle in handles:
            handle.remove()
    return seen, outputs


def two_pass(outputs: list[Tensor], dim: int, thresholds: Thresholds | None = None) -> State:
    """Every field, of the outputs of all calls together, each a float64 tensor."""
    x = torch.cat([y.movedim(dim, 0).flatten(1) for y in outputs], 1)
    t, finite = thresholds or Thresholds(), torch.isfinite(x)
    n, some = finite.sum(1), finite.any(1)
    values = torch.where(finite, x, 0.0)
    mean = values.sum(1) / n.clamp(min=1)
    mean += torch.where(finite, x - mean[:, None], 0.0).sum(1) / n.clamp(min=1)
    none = torch.zeros_like(finite)
    return State.of(
        {
            "count": torch.full((len(x),), x.shape[1]),
            "nan": x.isnan().sum(1),
            "pos_inf": x.isposinf().sum(1),
            "neg_inf": x.isneginf().sum(1),
            "zeros": (x.abs() <= t.zero_tol).sum(1),
            "sat_low": (none if t.low is None else x <= t.low).sum(1),
            "sat_high": (none if t.high is None else x >= t.high).sum(1),
            "mean": mean * some,
            "m2": torch.where(finite, x - mean[:, None], 0.0).square().sum(1),
            "min": torch.where(finite, x, torch.inf).amin(1) + 0.0,
            "max": torch.where(finite, x, -torch.inf).amax(1) + 0.0,
        }
    )


def assert_row(
    stats: ChannelStats, outputs: list[Tensor], dim: int, dtype: torch.dtype = torch.float32
) -> None:
    """Every field of a layer is that of its outputs."""
    want = two_pass(outputs, dim, stats.thresholds)
    assert_equal_states(stats.state, want, ACCURACY[dtype])


def assert_rows(
    profile: Profile, seen: Mapping[str, list[Tensor]], dims: Mapping[str, int]
) -> None:
    """A profile has a row of each module seen and of no other, and every field is right."""
    assert [name for name in profile if "/" not in name] == list(seen)
    for name, outputs in seen.items():
        info = profile.info[name]
        assert info.channel_dim == dims[name] % outputs[-1].dim(), name
        assert (info.calls, info.shape) == (len(outputs), tuple(outputs[-1].shape)), name
        assert_row(info.stats, outputs, info.channel_dim)


class Bottleneck(nn.Module):
    """As in torchvision: one ReLU for three activations, of two widths."""

    def __init__(self, inputs: int, width: int, stride: int = 1) -> None:
        super().__init__()
        outputs = 4 * width
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2, self.bn3 = nn.BatchNorm2d(width), nn.BatchNorm2d(outputs)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + self.downsample(x))


class SharedActivation(nn.Module):
    """As in YOLO models and diffusers: one activation and one dropout in all of a U-Net."""

    def __init__(self, act: nn.Module, widths: tuple[int, ...] = (6, 10, 14)) -> None:
        super().__init__()
        self.act, self.drop = act, nn.Dropout(0.1)
        sizes = (3, *widths)
        self.down = nn.ModuleList(
            [nn.Conv2d(a, b, 3, 2, 1) for a, b in zip(sizes, widths, strict=False)]
        )
        self.up = nn.ModuleList(
            [nn.Conv2d(2 * b, a, 1) for a, b in zip(sizes, widths, strict=False)]
        )

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for conv in self.down:
            x = self.drop(self.act(conv(x)))
            skips.append(x)
        for conv in reversed(self.up):
            x = self.act(conv(self.drop(torch.cat([x, skips.pop()], 1))))
            x = nn.functional.interpolate(x, scale_factor=2)
        return x


class SqueezeExcitation(nn.Module):
    """One gate, of another width in each block."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.relu = nn.Sigmoid(), nn.ReLU()
        self.stages = nn.ModuleList([nn.Conv2d(3, 8, 3), nn.Conv2d(8, 12, 3)])
        self.squeeze = nn.ModuleList([nn.Conv2d(c, 2, 1) for c in (8, 12)])
        self.excite = nn.ModuleList([nn.Conv2d(2, c, 1) for c in (8, 12)])

    def forward(self, x: Tensor) -> Tensor:
        for conv, squeeze, excite in zip(self.stages, self.squeeze, self.excite, strict=True):
            x = self.relu(conv(x))
            x = x * self.gate(excite(self.relu(squeeze(x.mean((2, 3), keepdim=True)))))
        return x


class Permute(nn.Module):
    """As in torchvision's Swin and ConvNeXt."""

    def __init__(self, dims: list[int]) -> None:
        super().__init__()
        self.dims = dims

    def forward(self, x: Tensor) -> Tensor:
        return torch.permute(x, self.dims)


class SharedDropout(nn.Module):
    """One dropout over attention maps and over tokens, whose number changes from batch to batch."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.drop = nn.Dropout(0.1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        attention = self.drop((q @ k.transpose(1, 2)).softmax(-1))
        return self.drop(self.out(attention @ v))
