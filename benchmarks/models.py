"""Build the models of bench_model.py, with random weights, and a batch for each."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

Made = tuple[nn.Module, Tensor]


def _from_transformers(kind: str, batch: int, **config: Any) -> Made:
    transformers = importlib.import_module("transformers")
    model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**config))
    return model, torch.randn(batch, 3, 224, 224)


def resnet_18() -> Made:
    return _from_transformers(
        "ResNet",
        8,
        layer_type="basic",
        depths=[2, 2, 2, 2],
        hidden_sizes=[64, 128, 256, 512],
    )


def resnet_50() -> Made:
    return _from_transformers(
        "ResNet",
        4,
        layer_type="bottleneck",
        depths=[3, 4, 6, 3],
        hidden_sizes=[256, 512, 1024, 2048],
    )


def mobilenet_v2() -> Made:
    mobilenet = importlib.import_module("fmstats.demo.mobilenet")
    return mobilenet.MobileNetV2(), torch.randn(8, 3, 224, 224)


def resnet_18_functional() -> Made:
    functional = importlib.import_module("functional_models")
    return functional.ResNet18(), torch.randn(8, 3, 224, 224)


def mobilenet_v2_functional() -> Made:
    functional = importlib.import_module("functional_models")
    return functional.MobileNetV2(), torch.randn(8, 3, 224, 224)


def vit() -> Made:
    """Build ViT-S/16 of Touvron et al. 2021."""
    return _from_transformers(
        "ViT", 4, hidden_size=384, intermediate_size=1536, num_attention_heads=6
    )


def convnext() -> Made:
    """Build ConvNeXt-T of Liu et al. 2022."""
    return _from_transformers("ConvNext", 2, depths=[3, 3, 9, 3], hidden_sizes=[96, 192, 384, 768])


def llama() -> Made:
    """Build a Llama of 8 layers, and a batch of tokens for it."""
    transformers = importlib.import_module("transformers")
    config = transformers.LlamaConfig(
        vocab_size=1000,
        hidden_size=512,
        intermediate_size=1376,
        num_hidden_layers=8,
        num_attention_heads=8,
        num_key_value_heads=4,
        use_cache=False,
    )
    return transformers.LlamaModel(config), torch.randint(1000, (2, 256))


class Decoding(nn.Module):
    """Returns the last states of a decoder that is given one token after the other.

    Args:
        decoder: it keeps the keys and values of earlier tokens.
    """

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, tokens: Tensor) -> Tensor:
        known = None
        states = torch.empty(0)
        for step in range(tokens.shape[1]):
            # By its place: transformers has given this argument two names.
            out = self.decoder(tokens[:, step : step + 1], None, None, known, use_cache=True)
            states, known = out[:2]
        return states


def decoder() -> Made:
    """Build a Llama of 12 layers and width 1024 that decodes 64 tokens, a batch of one."""
    transformers = importlib.import_module("transformers")
    config = transformers.LlamaConfig(
        vocab_size=1000,
        hidden_size=1024,
        intermediate_size=2816,
        num_hidden_layers=12,
        num_attention_heads=16,
        num_key_value_heads=8,
    )
    return Decoding(transformers.LlamaModel(config)), torch.randint(1000, (1, 64))


def bert() -> Made:
    """Build a BERT of the size of BERT-base, and a batch of tokens for it."""
    transformers = importlib.import_module("transformers")
    config = transformers.BertConfig(vocab_size=1000)
    return transformers.BertModel(config), torch.randint(1000, (8, 128))


def mlp() -> Made:
    layers = [m for _ in range(48) for m in (nn.Linear(256, 256), nn.ReLU())]
    return nn.Sequential(*layers), torch.randn(32, 256)


# F: with functions in place of modules.
MODELS: Mapping[str, Callable[[], Made]] = {
    "ResNet-18": resnet_18,
    "ResNet-50": resnet_50,
    "MobileNetV2": mobilenet_v2,
    "ResNet-18 F": resnet_18_functional,
    "MobileNetV2 F": mobilenet_v2_functional,
    "ViT-S": vit,
    "ConvNeXt-T": convnext,
    "Llama": llama,
    "Decoder": decoder,
    "BERT": bert,
    "MLP": mlp,
}
