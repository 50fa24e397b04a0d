"""The channel dim that "auto" finds, layer by layer, in nets as people write them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import pytest
import torch
from torch import Tensor, nn

import fmstats
from fmstats.errors import FmstatsError
from fmstats.models.channel_dims import ChannelRule, channel_rules


def channels_seen(model: nn.Module, *args: Tensor, **options: object) -> dict[str, tuple[int, int]]:
    """(channel dim, channels) of every layer that fired."""
    model.eval()
    with torch.no_grad(), fmstats.track(model, **options) as tracker:  # type: ignore[arg-type]
        model(*args)
    modules = {name: row for name, row in tracker.stats().info.items() if "/" not in name}
    assert all(row.channel_dim is not None for row in modules.values())
    return {name: (row.channel_dim or 0, row.stats.channels) for name, row in modules.items()}


@pytest.mark.parametrize(
    ("layer", "shape", "want"),
    [
        (nn.Conv1d(3, 5, 1), (2, 3, 7), (1, 5)),
        (nn.Conv1d(3, 5, 1), (3, 7), (0, 5)),
        (nn.Conv2d(3, 5, 1), (2, 3, 6, 7), (1, 5)),
        (nn.Conv2d(3, 5, 1), (3, 6, 7), (0, 5)),
        (nn.Conv2d(3, 7, 1), (2, 3, 7, 7), (1, 7)),
        (nn.Conv3d(3, 5, 1), (2, 3, 4, 6, 7), (1, 5)),
        (nn.ConvTranspose2d(3, 5, 2), (2, 3, 6, 7), (1, 5)),
        (nn.MaxPool2d(2), (2, 3, 6, 8), (1, 3)),
        (nn.MaxPool2d(2), (3, 6, 8), (0, 3)),
        (nn.AdaptiveAvgPool1d(1), (2, 3, 6), (1, 3)),
        (nn.Upsample(scale_factor=2), (2, 3, 6, 7), (1, 3)),
        (nn.PixelShuffle(2), (2, 12, 6, 7), (1, 3)),
        (nn.BatchNorm1d(3), (2, 3), (1, 3)),
        (nn.BatchNorm1d(3), (2, 3, 7), (1, 3)),
        (nn.BatchNorm2d(3), (2, 3, 3, 3), (1, 3)),
        (nn.GroupNorm(1, 4), (2, 4, 6, 7), (1, 4)),
        (nn.InstanceNorm2d(3), (2, 3, 6, 7), (1, 3)),
        (nn.Linear(3, 5), (3,), (0, 5)),
        (nn.Linear(3, 5), (2, 3), (1, 5)),
        (nn.Linear(3, 5), (2, 5, 3), (2, 5)),
        (nn.Linear(3, 5), (2, 6, 5, 3), (3, 5)),
        (nn.LayerNorm(3), (2, 7, 3), (2, 3)),
        (nn.LayerNorm(3), (2, 3, 3), (2, 3)),
        (nn.RMSNorm(3), (2, 7, 3), (2, 3)),
        (nn.GRU(3, 5, bidirectional=True), (7, 2, 3), (2, 10)),
        (nn.TransformerEncoderLayer(8, 2, 16), (7, 2, 8), (2, 8)),
        (nn.ReLU(), (2, 3), (1, 3)),
        (nn.ReLU(), (2, 3, 6, 7), (1, 3)),
    ],
    ids=str,
)
def test_single_layers(layer: nn.Module, shape: tuple[int, ...], want: tuple[int, int]) -> None:
    seen = channels_seen(layer, torch.randn(shape), include="(model)")
    assert seen == {"(model)": want}


def test_a_projected_lstm() -> None:
    rule = channel_rules(nn.LSTM(3, 5, proj_size=4, bidirectional=True))[""]
    assert rule == ChannelRule(-1, 8)


def test_attention_and_embedding() -> None:
    x = torch.randn(2, 7, 8)
    attention = nn.MultiheadAttention(8, 2, batch_first=True)
    assert channels_seen(attention, x, x, x, include="(model)") == {"(model)": (2, 8)}
    embedding = nn.Embedding(10, 6)
    assert channels_seen(embedding, torch.zeros(6, 6, dtype=torch.int64)) == {"(model)": (2, 6)}


def test_a_conv_net_with_a_linear_head() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),  # 0
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Dropout2d(),
        nn.Conv2d(6, 8, 3, padding=1, groups=2),  # 5: 8 channels, 8 x 8
        nn.GELU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Dropout(),
        nn.Linear(32, 5),
        nn.Softmax(-1),
    )
    want = [(1, 6)] * 5 + [(1, 8)] * 3 + [(1, 32)] * 2 + [(1, 5)] * 2
    for images in (torch.randn(2, 3, 16, 16), torch.randn(1, 3, 16, 16)):
        assert list(channels_seen(model, images).values()) == want
        channels_last = images.to(memory_format=torch.channels_last)
        assert list(channels_seen(model, channels_last).values()) == want


class Bottleneck(nn.Module):
    """The block of a ResNet-50: one ReLU, called with 4, 4 and 16 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(16, 4, 1, bias=False), nn.BatchNorm2d(4)
        self.conv2, self.bn2 = nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.conv3, self.bn3 = nn.Conv2d(4, 16, 1, bias=False), nn.BatchNorm2d(16)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + x)


@pytest.mark.parametrize("size", [9, 16])
def test_a_resnet_block_reuses_one_relu(size: int) -> None:
    seen = channels_seen(Bottleneck(), torch.randn(2, 16, size, size), per_call=True)
    assert {n: seen[n] for n in ("relu#0", "relu#1", "relu#2")} == {
        "relu#0": (1, 4),
        "relu#1": (1, 4),
        "relu#2": (1, 16),
    }


def test_a_resnet_block_by_default_has_a_row_for_each_width() -> None:
    seen = channels_seen(Bottleneck(), torch.randn(2, 16, 9, 9))
    assert {n: seen[n] for n in seen if "relu" in n} == {"relu@4": (1, 4), "relu@16": (1, 16)}


def transformers_model(name: str) -> tuple[nn.Module, Tensor]:
    """A small model of a known architecture, without weights, and an input for it."""
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    tokens, small = torch.randint(0, 50, (3, 7)), {"num_attention_heads": 2}
    if name == "BERT":
        config = transformers.BertConfig(
            vocab_size=50, hidden_size=16, num_hidden_layers=2, intermediate_size=24,
            max_position_embeddings=20, attn_implementation="eager", **small,
        )  # fmt: skip
        return transformers.BertModel(config), tokens
    if name == "ViT":
        config = transformers.ViTConfig(
            hidden_size=16, num_hidden_layers=2, intermediate_size=24, image_size=12,
            patch_size=4, **small,
        )  # fmt: skip
        return transformers.ViTModel(config), torch.randn(2, 3, 12, 12)
    if name == "GPT-2":
        config = transformers.GPT2Config(
            vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=20,
            bos_token_id=0, eos_token_id=0,
        )  # fmt: skip
        return transformers.GPT2Model(config), tokens
    config = transformers.ConvNextConfig(
        hidden_sizes=[6, 10], depths=[2, 1], num_stages=2, patch_size=4
    )
    return transformers.ConvNextModel(config), torch.randn(2, 3, 32, 32)


# What to expect, by the first pattern found in a name; the sizes of all dims differ.
EXPECTED: Mapping[str, list[tuple[str, tuple[int, int]]]] = {
    "BERT": [("intermediate", (2, 24)), ("pooler", (1, 16)), ("", (2, 16))],
    "ViT": [
        ("projection", (1, 16)),
        (r"fc1|activation_fn|intermediate", (2, 24)),
        ("pooler", (1, 16)),
        ("", (2, 16)),
    ],
    "GPT-2": [("c_attn", (2, 48)), (r"c_fc|mlp\.act", (2, 64)), ("", (2, 16))],
    "ConvNeXt": [
        (r"^layernorm", (1, 10)),
        (r"embeddings|downsampling_layer\.0|stages\.0.*(dwconv|drop_path)", (1, 6)),
        (r"stages\.0.*(pwconv1|act)", (3, 24)),
        (r"stages\.0", (3, 6)),
        (r"stages\.1.*(dwconv|drop_path|downsampling_layer\.1)", (1, 10)),
        (r"stages\.1.*(pwconv1|act)", (3, 40)),
        (r"stages\.1", (3, 10)),
    ],
}


@pytest.mark.parametrize(
    ("name", "fewest"), [("BERT", 29), ("ViT", 25), ("GPT-2", 22), ("ConvNeXt", 22)]
)
def test_transformers(name: str, fewest: int) -> None:
    model, data = transformers_model(name)
    seen = channels_seen(model, data)
    assert len(seen) >= fewest
    wrong = {}
    for layer, got in seen.items():
        want = next(want for pattern, want in EXPECTED[name] if re.search(pattern, layer))
        if got != want:
            wrong[layer] = (got, want)
    assert not wrong


class OwnNorm(nn.Module):
    """A LayerNorm over one dim, as ConvNeXt's own code has it: no nn.LayerNorm."""

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.weight, self.dim = nn.Parameter(torch.ones(size)), dim

    def forward(self, x: Tensor) -> Tensor:
        y = x.movedim(self.dim, -1)
        return (nn.functional.layer_norm(y, y.shape[-1:]) * self.weight).movedim(-1, self.dim)


@pytest.mark.parametrize("dim", [1, 3])
def test_a_norm_of_its_own_kind_after_a_convolution(dim: int) -> None:
    """Its weight has 5 elements, and one dim alone has this size."""
    model = nn.Sequential(nn.Conv2d(3, 5, 1), OwnNorm(5, dim))
    model.forward = lambda x: model[1](model[0](x).movedim(1, dim))  # type: ignore[method-assign]
    assert channels_seen(model, torch.randn(2, 3, 6, 7)) == {"0": (1, 5), "1": (dim, 5)}


def test_blocks_follow_the_layers_in_them() -> None:
    model, images = transformers_model("ViT")
    blocks = channels_seen(model, images, include=lambda n, m: type(m).__name__ == "ViTLayer")
    assert list(blocks.values()) == [(2, 16)] * 2


def test_a_channels_first_layer_norm_on_a_square_of_its_size() -> None:
    """The stem of a ConvNeXt-T at 384 pixels: 96 channels, 96 x 96."""
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    config = transformers.ConvNextConfig(hidden_sizes=[8], depths=[1], num_stages=1, patch_size=4)
    seen = channels_seen(transformers.ConvNextModel(config), torch.randn(2, 3, 32, 32))
    assert seen["embeddings.layernorm"] == (1, 8)


@pytest.mark.parametrize(
    ("layer", "shape", "want"),
    [
        (nn.Conv2d(3, 32, 3, padding=1), (2, 3, 32, 32), (1, 3)),  # CIFAR
        (nn.Linear(8, 16), (2, 16, 8), (2, 8)),
    ],
    ids=["Conv2d", "Linear"],
)
def test_inputs_have_their_own_number_of_channels(
    layer: nn.Module, shape: tuple[int, ...], want: tuple[int, int]
) -> None:
    assert channels_seen(layer, torch.randn(shape), of="input") == {"(model)": want}


def test_a_dim_for_all() -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU())
    x = torch.randn(2, 3, 6, 7)
    assert channels_seen(model, x, channel_dim=2) == {"0": (2, 6), "1": (2, 6)}
    assert channels_seen(model, x, channel_dim=-1) == {"0": (3, 7), "1": (3, 7)}


def by_name(name: str, module: nn.Module) -> bool:
    return name == "1"


@pytest.mark.parametrize("selector", ["1", "[1]", re.compile("1"), nn.ReLU, by_name])
def test_dims_by_selector(selector: str | Callable[[str, nn.Module], bool]) -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU())
    seen = channels_seen(model, torch.randn(2, 3, 6, 7), channel_dim={selector: -1})
    assert seen == {"0": (1, 5), "1": (3, 7)}


def test_later_selectors_win() -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 1), nn.ReLU())
    seen = channels_seen(model, torch.randn(2, 3, 6, 7), channel_dim={"*": 3, nn.ReLU: 0})
    assert seen == {"0": (3, 7), "1": (0, 2)}


def test_the_same_dim_from_batch_to_batch() -> None:
    """(N, 5, 7) has its 5 channels in dim 1, so (N, 5, 5) does as well."""
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU())
    numbers = torch.arange(5.0).view(1, 5, 1)
    with fmstats.track(model, include="1") as tracker:
        model[1](numbers.expand(2, 5, 7))
        model[1](numbers.expand(2, 5, 5))
    assert tracker.stats().info["1"].channel_dim == 1
    assert tracker.stats()["1"].mean.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_rules() -> None:
    rules = channel_rules(
        nn.Sequential(nn.ReLU(), nn.Conv2d(3, 5, 1), nn.ReLU(), nn.Sequential(nn.Linear(5, 6)))
    )
    assert rules["0"] == ChannelRule(-3, None, own=False)  # as what follows, of unknown size
    assert rules["1"] == ChannelRule(-3, 5, own=True)
    assert rules["2"] == ChannelRule(-3, 5, own=False)
    assert rules["3"] == ChannelRule(-1, 6, own=False)
    assert rules["3.0"] == ChannelRule(-1, 6, own=True)
    mixed = channel_rules(nn.Sequential(nn.Sequential(nn.Conv2d(3, 5, 1), nn.Linear(5, 6))))
    assert mixed["0"] == mixed[""] == ChannelRule(-1, 6, own=False)


def test_a_norm_of_its_own_kind() -> None:
    """Its weight says how many channels it has, whatever came before it."""

    class Norm(nn.Module):
        def __init__(self, size: int) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(size))

    rules = channel_rules(nn.Sequential(nn.Linear(5, 9), Norm(6), nn.ReLU()))
    assert rules["1"] == ChannelRule(-1, 6, own=False, norm=True)
    assert rules["2"] == ChannelRule(-1, 9, own=False)


def test_what_follows_pooling_has_as_many_channels_as_go_in() -> None:
    rules = channel_rules(nn.Sequential(nn.Conv2d(3, 8, 1), nn.MaxPool2d(2), nn.ReLU()))
    assert rules["2"] == ChannelRule(-3, 8, own=False)
    assert rules["2"].resolve((2, 9, 8)) == 2  # patches become tokens


def test_a_followed_rule_looks_for_the_channels() -> None:
    rule = ChannelRule(-3, 5, own=False)
    assert rule.resolve((2, 5, 6, 7)) == 1
    assert rule.resolve((2, 6, 7, 5)) == 1  # a width that happens to be 5
    assert rule.resolve((5, 6, 7)) == 0  # a sample without a batch
    assert rule.resolve((5, 5, 7)) == 1  # a batch of five, which a sample may be as well
    assert rule.resolve((2, 9, 5)) == 2  # patches become tokens
    assert rule.resolve((2, 8, 6, 7)) == 1
    assert rule.resolve((2, 45)) == 1
    assert rule.resolve((45,)) == 0


@pytest.mark.parametrize("dim", [4, -5])
def test_a_dim_that_is_not_there(dim: int) -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 1))
    with (
        fmstats.track(model, channel_dim=dim, on_error="raise"),
        pytest.raises(
            FmstatsError,
            match=rf"^layer '0' \(Conv2d\): channel_dim={dim} is not a dim of a tensor of shape "
            r"\(2, 5, 6, 7\): choose from -4 to 3$",
        ),
    ):
        model(torch.randn(2, 3, 6, 7))


@pytest.mark.parametrize(
    ("channel_dim", "message"),
    [
        ("first", r"^channel_dim='first': choose 'auto', a dim, or a mapping"),
        (1.5, r"^channel_dim=1\.5: choose"),
        ({"conv": 1}, r"^channel_dim: 'conv' matches none of the tracked layers"),
        ({"0": "1"}, r"channel_dim.*'1'"),
    ],
)
def test_other_dims(channel_dim: object, message: str) -> None:
    with pytest.raises(FmstatsError, match=message):
        fmstats.track(nn.Sequential(nn.ReLU()), channel_dim=channel_dim)  # type: ignore[arg-type]


def test_a_relu_before_a_linear_reads_tokens() -> None:
    model = nn.Sequential(nn.ReLU(), nn.Linear(4, 6))
    with fmstats.track(model) as tracker:
        model(torch.randn(2, 7, 4))
        model(torch.randn(2, 9, 4))
    assert {n: s.channels for n, s in tracker.stats().items()} == {"0": 4, "1": 6}
