"""Model families people use, small and with random weights: every row, every field, every bit."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

import pytest
import torch
from compat_models import UNet3d, assert_rows, captured, leaves_of
from snapshot import Snapshot
from torch import Tensor, nn

import fmstats
from fmstats import Profile

Expected = list[tuple[str, int, int]]  # pattern of a name, channel dim, channels
Family = tuple[nn.Module, dict[str, Tensor], Expected]


def transformer(kind: str, head: str = "Model", **config: object) -> nn.Module:
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    model = getattr(transformers, kind + head)(getattr(transformers, f"{kind}Config")(**config))
    return model  # type: ignore[no-any-return]


def tokens() -> dict[str, Tensor]:
    return {"input_ids": torch.randint(0, 50, (3, 7))}


def pixels(size: int) -> dict[str, Tensor]:
    return {"pixel_values": torch.randn(2, 3, size, size)}


def resnet() -> Family:
    model = transformer(
        "ResNet", embedding_size=6, hidden_sizes=[8, 12], depths=[1, 2], layer_type="bottleneck"
    )
    # Sizes of feature maps that are also numbers of channels: 8 and 12.
    return model, pixels(32), [
        ("^embedder", 1, 6),
        (r"stages\.0\.layers\..\.layer\.[01]", 1, 2),
        (r"stages\.0", 1, 8),
        (r"stages\.1\.layers\..\.layer\.[01]", 1, 3),
        (r"stages\.1|^pooler", 1, 12),
    ]  # fmt: skip


def convnext(kind: str) -> Family:
    model = transformer(kind, hidden_sizes=[6, 10], depths=[2, 1], num_stages=2, patch_size=4)
    return model, pixels(32), [
        ("^layernorm", -1, 10),
        (r"embeddings|downsampling_layer\.0|stages\.0.*(dwconv|drop_path)", 1, 6),
        (r"stages\.0.*(pwconv1|act|grn)", -1, 24),
        (r"stages\.0", -1, 6),
        (r"stages\.1.*(dwconv|drop_path|downsampling_layer\.1)", 1, 10),
        (r"stages\.1.*(pwconv1|act|grn)", -1, 40),
        (r"stages\.1", -1, 10),
    ]  # fmt: skip


def vit() -> Family:
    model = transformer(
        "ViT", hidden_size=16, num_hidden_layers=2, intermediate_size=24, image_size=12,
        patch_size=4, num_attention_heads=2,
    )  # fmt: skip
    return model, pixels(12), [("projection", 1, 16), (r"fc1|activation_fn", -1, 24), ("", -1, 16)]


def swin() -> Family:
    model = transformer(
        "Swin", image_size=16, patch_size=2, embed_dim=6, depths=[2, 1], num_heads=[2, 2],
        window_size=4,
    )  # fmt: skip
    return model, pixels(16), [
        ("projection", 1, 6),
        ("pooler", 1, 12),
        ("relative_position_bias", 1, 2),  # heads
        (r"layers\.0.*(fc1|activation_fn|downsample\.norm)", -1, 24),
        (r"layers\.1.*(fc1|activation_fn)", -1, 48),
        (r"layers\.1|reduction|^layernorm", -1, 12),
        ("", -1, 6),
    ]  # fmt: skip


def bert() -> Family:
    model = transformer(
        "Bert", "ForSequenceClassification", vocab_size=50, hidden_size=16, num_hidden_layers=2,
        intermediate_size=24, max_position_embeddings=20, num_attention_heads=2,
    )  # fmt: skip
    return model, tokens(), [("intermediate", -1, 24), ("classifier", -1, 2), ("", -1, 16)]


def llama() -> Family:
    model = transformer(
        "Llama", "ForCausalLM", vocab_size=50, hidden_size=16, num_hidden_layers=2,
        intermediate_size=24, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=20,
    )  # fmt: skip
    return model, tokens(), [
        ("rotary_emb", -1, 4),
        ("[kv]_proj", -1, 8),
        ("gate_proj|up_proj|act_fn", -1, 24),
        ("lm_head", -1, 50),
        ("", -1, 16),
    ]  # fmt: skip


def gpt2() -> Family:
    model = transformer(
        "GPT2", "LMHeadModel", vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=20,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    sizes: Expected = [("c_attn", -1, 48), (r"c_fc|mlp\.act", -1, 64), ("lm_head", -1, 50)]
    return model, tokens(), [*sizes, ("", -1, 16)]


def wav2vec2(norm: str) -> Family:
    model = transformer(
        "Wav2Vec2", hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=24, conv_dim=(6, 10), conv_stride=(5, 2), conv_kernel=(10, 3),
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, feat_extract_norm=norm,
        do_stable_layer_norm=norm == "layer",
    )  # fmt: skip
    # Convolutions have (N, C, L); between them and their activations, LayerNorm has (N, L, C).
    dim = -1 if norm == "layer" else 1
    return model, {"input_values": torch.randn(2, 200)}, [
        (r"conv_layers\.0\.layer_norm", dim, 6),
        (r"conv_layers\.1\.layer_norm", dim, 10),
        (r"conv_layers\.0", 1, 6),
        (r"conv_layers\.1", 1, 10),
        ("pos_conv_embed", 1, 16),
        (r"feature_projection\.layer_norm", -1, 10),
        ("intermediate", -1, 24),
        ("", -1, 16),
    ]  # fmt: skip


def mamba() -> Family:
    model = transformer(
        "Mamba", vocab_size=50, hidden_size=16, state_size=4, num_hidden_layers=2, conv_kernel=3,
        expand=2,
    )  # fmt: skip
    return model, tokens(), [("in_proj", -1, 64), ("x_proj", -1, 9), ("", -1, 16)]


def unet3d(norm: type[nn.Module]) -> Family:
    expected: Expected = [("^low", 1, 7), ("^head", 1, 2), ("", 1, 5)]
    return UNet3d(norm), {"x": torch.randn(2, 1, 4, 6, 8)}, [("^pool", 1, 5), *expected]


def monai_unet() -> Family:
    nets = pytest.importorskip("monai.networks.nets.unet", reason="needs monai")
    model = nets.UNet(3, 1, 2, channels=(4, 8, 16), strides=(2, 2), num_res_units=1)
    return model, {"x": torch.randn(2, 1, 8, 12, 16)}, [
        (r"^model\.0", 1, 4),
        (r"^model\.1\.submodule\.0", 1, 8),
        (r"^model\.1\.submodule\.1", 1, 16),
        (r"^model\.1\.submodule\.2", 1, 4),
        (r"^model\.2", 1, 2),
    ]  # fmt: skip


FAMILIES: dict[str, tuple[Callable[[], Family], int]] = {  # and how many layers fire
    "ResNet": (resnet, 40),
    "ConvNeXt": (lambda: convnext("ConvNext"), 23),
    "ConvNeXt V2": (lambda: convnext("ConvNextV2"), 26),
    "ViT": (vit, 25),
    "Swin": (swin, 43),
    "BERT": (bert, 31),
    "Llama": (llama, 24),
    "GPT-2": (gpt2, 23),
    "Wav2Vec2, group norm": (lambda: wav2vec2("group"), 25),
    "Wav2Vec2, layer norm": (lambda: wav2vec2("layer"), 26),
    "Mamba": (mamba, 10),
    "3-D UNet, instance norm": (lambda: unet3d(nn.InstanceNorm3d), 13),
    "3-D UNet, batch norm": (lambda: unet3d(nn.BatchNorm3d), 13),
    "3-D UNet of MONAI": (monai_unet, 30),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_field_of_every_layer(name: str) -> None:
    make, layers = FAMILIES[name]
    model, inputs, expected = make()
    model.eval()
    with torch.no_grad():
        seen, plain = captured(model, lambda: model(**inputs))
        with fmstats.track(model) as tracker:
            _, tracked = captured(model, lambda: model(**inputs), {})
    profile = tracker.stats()
    profile = Profile({n: row for n, row in profile.info.items() if "/" not in n}, profile.metadata)
    want = {n: next(e[1:] for e in expected if re.search(e[0], n)) for n in seen}
    assert len(profile) == layers
    assert_rows(profile, seen, {n: dim for n, (dim, _) in want.items()})
    got = {n: stats.channels for n, stats in profile.items()}
    assert got == {n: channels for n, (_, channels) in want.items()}
    modules = [row for row in tracker.coverage() if "/" not in row.name]
    silent = {row.name: row.status for row in modules if row.status != "tracked"}
    assert silent == {n: "never fired" for n, _ in leaves_of(model) if n not in seen}
    assert len(plain) == len(tracked)
    assert all(map(torch.equal, plain, tracked))


LOOKS: dict[str, Callable[[nn.Module, dict[str, Tensor]], object]] = {
    "analyze": lambda model, inputs: fmstats.analyze(model, inputs),
    "analyze on numbers": lambda model, inputs: fmstats.analyze(model, inputs, device="cpu"),
    "profile": lambda model, inputs: fmstats.profile(model, [inputs], progress=False),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_looks_leave_a_model_as_it_was(name: str) -> None:
    model, inputs, _ = FAMILIES[name][0]()
    # In training, Wav2Vec2 draws which layers to leave out, and fake tensors draw nothing.
    model.train("Wav2Vec2" not in name)
    for look in LOOKS.values():
        before = Snapshot(model, inputs)
        look(model, inputs)
        before.check()


@pytest.mark.parametrize("kind", ["DynamicCache", "StaticCache"])
@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_a_cache_of_keys_and_values_stays_as_long_as_it_was(kind: str, device: str) -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers")
    model, inputs, _ = llama()
    options = {} if kind == "DynamicCache" else {"config": model.config, "max_cache_len": 20}
    cache = getattr(transformers, kind)(**options)
    names = inspect.signature(model.forward).parameters
    given = {**inputs, "cache" if "cache" in names else "past_key_values": cache}
    with torch.no_grad():
        model.eval()(**given)
    before = Snapshot(model, given)
    if (kind, device) == ("StaticCache", "meta"):  # It reads how full it is from a tensor.
        with pytest.raises(fmstats.FmstatsError, match=r"depends on values.*device='cpu'"):
            fmstats.analyze(model, given)
        before.check()
        return
    found = fmstats.analyze(model, given, device=device)
    before.check()
    assert cache.get_seq_length() == 7
    # The mask of the attention, 14 keys in all, is the model's own doing.
    assert found["model.layers.1.self_attn.k_proj"].output_shape == (3, 7, 8)


def test_a_sample_of_volumes_without_a_batch() -> None:
    model, x = UNet3d().eval(), torch.randn(1, 4, 6, 8)
    with torch.no_grad():
        seen, _ = captured(model, lambda: model(x))
        with fmstats.track(model) as tracker:
            model(x)
    assert_rows(tracker.stats(), seen, dict.fromkeys(seen, 0))


class LayerNorm2d(nn.LayerNorm):
    """As torchvision and timm have it: channels first in and out."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Reshape(nn.Module):
    """The layer before, seen otherwise."""

    def __init__(self, of: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.of = of

    def forward(self, x: Tensor) -> Tensor:
        return self.of(x)


class Scale(nn.Module):
    """A norm of its own kind: nothing of torch's, and a width that is no tuple."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.normalized_shape, self.weight = width, nn.Parameter(torch.randn(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight


TRAPS: dict[str, tuple[nn.Module, Tensor, list[int]]] = {
    "LayerNorm2d on a square of its size": (
        nn.Sequential(nn.Conv2d(3, 8, 1), LayerNorm2d(8), nn.GELU()),
        torch.randn(2, 3, 8, 8),
        [1, 1, 1],
    ),
    "LayerNorm over (C, H, W)": (
        nn.Sequential(nn.Conv2d(3, 8, 3), nn.LayerNorm((8, 4, 5)), nn.ReLU()),
        torch.randn(2, 3, 6, 7),
        [1, 1, 1],
    ),
    "LayerNorm over (C, L)": (
        nn.Sequential(nn.Conv1d(3, 8, 3), nn.LayerNorm((8, 4)), nn.ReLU()),
        torch.randn(2, 3, 6),
        [1, 1, 1],
    ),
    "LayerNorm over (L, C)": (
        nn.Sequential(nn.Linear(3, 8), nn.LayerNorm((6, 8)), nn.ReLU()),
        torch.randn(2, 6, 3),
        [2, 2, 2],
    ),
    "InstanceNorm1d without a batch": (
        nn.Sequential(nn.Conv1d(3, 5, 1), nn.InstanceNorm1d(5), nn.ReLU()),
        torch.randn(3, 7),
        [0, 0, 0],
    ),
    "InstanceNorm2d without a batch": (
        nn.Sequential(nn.Conv2d(3, 5, 1), nn.InstanceNorm2d(5), nn.ReLU()),
        torch.randn(3, 6, 7),
        [0, 0, 0],
    ),
    "PReLU before a column": (
        nn.Sequential(nn.Conv2d(3, 5, (1, 7)), nn.PReLU()),
        torch.randn(2, 3, 6, 7),
        [1, 1],
    ),
    "PReLU of several": (
        nn.Sequential(nn.Conv2d(3, 5, 1), nn.PReLU(5)),
        torch.randn(2, 3, 6, 7),
        [1, 1],
    ),
    "Unfold and Fold": (
        nn.Sequential(nn.Conv2d(3, 5, 1), nn.Unfold(2), nn.Fold((6, 7), 2)),
        torch.randn(2, 3, 6, 7),
        [1, 1, 1],
    ),
    "PixelUnshuffle without a batch": (
        nn.Sequential(nn.Conv2d(3, 5, 1), nn.PixelUnshuffle(2)),
        torch.randn(3, 6, 8),
        [0, 0],
    ),
    "tokens of pooled pixels": (
        nn.Sequential(
            nn.Conv2d(3, 5, 1),
            nn.MaxPool2d(2),
            Reshape(lambda x: x.flatten(2).mT),
            nn.Dropout(),
        ),
        torch.randn(2, 3, 6, 8),
        [1, 1, 2, 2],
    ),
    "a norm whose width is a number": (
        nn.Sequential(nn.Linear(3, 8), Scale(8)),
        torch.randn(2, 6, 3),
        [2, 2],
    ),
}


@pytest.mark.parametrize("name", TRAPS)
def test_channels_where_the_shape_misleads(name: str) -> None:
    model, x, dims = TRAPS[name]
    model.eval()
    with torch.no_grad():
        seen, _ = captured(model, lambda: model(x))
        with fmstats.track(model) as tracker:
            model(x)
    assert_rows(tracker.stats(), seen, {str(i): dim for i, dim in enumerate(dims)})
