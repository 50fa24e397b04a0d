"""Build healthy networks over sequences, and transformers, for bench_diagnose.py."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from healthy_data import Data, classify, fit, load_digits, load_patches, load_text
from healthy_images import Made, chunk
from torch import Tensor, nn


class Recurrent(nn.Module):
    """Predicts the next letter by a recurrent layer over embedded letters."""

    def __init__(self, kind: Callable[..., nn.Module], layers: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(64, 32)
        self.rnn = kind(32, 64, layers, batch_first=True)
        self.norm, self.head = nn.LayerNorm(64), nn.Linear(64, 64)

    def forward(self, letters: Tensor) -> Tensor:
        return self.head(self.norm(self.rnn(self.embed(letters))[0]))


def lstm() -> Made:
    """Build an LSTM of two layers over text."""
    return fit(Recurrent(nn.LSTM, 2), load_text(), steps=100), chunk(load_text()[0])


def gru() -> Made:
    """Build a GRU over text."""
    return fit(Recurrent(nn.GRU, 1), load_text(), steps=100), chunk(load_text()[0])


class Steps(nn.Module):
    """Is a tanh RNN over the rows of a digit, written as cells."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.again = nn.Linear(8, 64), nn.Linear(64, 64)
        self.tanh, self.head = nn.Tanh(), nn.Linear(64, 10)

    def forward(self, images: Tensor) -> Tensor:
        state = images.new_zeros(len(images), 64)
        for row in images[:, 0].unbind(1):
            state = self.tanh(self.inside(row) + self.again(state))
        return self.head(state)


def tanh_rnn() -> Made:
    """Build a tanh RNN over the rows of digits."""
    return fit(Steps(), load_digits(), steps=200), chunk(load_digits()[0])


class Encoder(nn.Module):
    """Is a transformer encoder over the rows of a digit, normalised after each part."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = nn.Linear(8, 48)
        self.place = nn.Parameter(0.5 * torch.randn(8, 48))
        layer = nn.TransformerEncoderLayer(48, 4, 96, 0.1, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 4, enable_nested_tensor=False)
        self.head = nn.Linear(48, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.layers(self.inside(images[:, 0]) + self.place).mean(1))


def encoder() -> Made:
    """Build a transformer encoder of torch over digits."""
    return fit(Encoder(), load_digits(), steps=120, rate=1e-3), chunk(load_digits()[0])


class Experts(nn.Module):
    """Has four experts, of which a gate picks one for each token (Fedus et al. 2022)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.gate, self.soft = nn.LayerNorm(width), nn.Linear(width, 4), nn.Softmax(-1)
        self.switch = Switch()
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, width)) for _ in range(4)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        shares = self.soft(self.gate(y))
        chosen = self.switch(shares)
        parts = torch.stack([expert(y) for expert in self.experts], -1)
        return x + (parts * (shares * chosen).unsqueeze(-2)).sum(-1)


class Switch(nn.Module):
    """Returns 1 for the largest share and 0 for the others."""

    def forward(self, shares: Tensor) -> Tensor:
        return nn.functional.one_hot(shares.argmax(-1), shares.shape[-1]).to(shares.dtype)


class SwitchGate(nn.Module):
    """Has a gate for each channel, open or closed nearly always, in front of the head."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.choose, self.gate = nn.Linear(width, width), nn.Sigmoid()
        nn.init.normal_(self.choose.weight, std=8 / width**0.5)
        nn.init.normal_(self.choose.bias, std=8.0)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(self.choose(x))


def experts() -> Made:
    """Build a language model with experts behind a switch, and gates that are open or closed."""
    layers = [nn.Embedding(64, 32), *[Experts(32) for _ in range(3)], SwitchGate(32)]
    model = nn.Sequential(*layers, nn.LayerNorm(32), nn.Linear(32, 64))
    return fit(model, load_text(), steps=80), chunk(load_text()[0])


class Wrapped(nn.Module):
    """Returns the logits of a model of transformers for one tensor."""

    def __init__(self, inner: nn.Module, name: str = "input_ids") -> None:
        super().__init__()
        self.inner, self.name = inner, name

    def forward(self, x: Tensor) -> Tensor:
        known: dict[str, Tensor] = {self.name: x}
        if self.name == "input_ids" and bool((x == 0).any()):
            known["attention_mask"] = (x != 0).long()
        return self.inner(**known).logits


def _of_transformers(kind: str, task: str, name: str = "input_ids", **config: Any) -> nn.Module:
    transformers = importlib.import_module("transformers")
    made = getattr(transformers, f"{kind}Config")(**config)
    return Wrapped(getattr(transformers, f"{kind}{task}")(made), name)


def _hide(data: Data) -> Data:
    """Mask 15 % of the letters of a text, which the model has to predict."""
    hidden = torch.rand(data[0].shape, generator=torch.Generator().manual_seed(0)) < 0.15
    return data[0].masked_fill(hidden, 1), data[0]


def bert() -> Made:
    """Build a BERT over text of one segment, with the positions of short texts padded."""
    model = _of_transformers(
        *("Bert", "ForMaskedLM"),
        **{"vocab_size": 64, "hidden_size": 48, "num_hidden_layers": 3, "pad_token_id": 0},
        **{"num_attention_heads": 4, "intermediate_size": 96, "max_position_embeddings": 64},
    )
    letters, target = _hide(load_text())
    letters = letters.clone()
    letters[1::2, 20:] = 0
    model = fit(model, (letters, target), steps=80, rate=1e-3)
    return model, chunk(letters)


def gpt2() -> Made:
    """Build a GPT-2 over text."""
    model = _of_transformers(
        *("GPT2", "LMHeadModel"),
        **{"vocab_size": 64, "n_embd": 48, "n_layer": 4, "n_head": 4, "n_positions": 64},
        **{"bos_token_id": None, "eos_token_id": None},
    )
    return fit(model, load_text(), steps=80), chunk(load_text()[0])


def llama() -> Made:
    """Build a Llama over text."""
    model = _of_transformers(
        *("Llama", "ForCausalLM"),
        **{"vocab_size": 64, "hidden_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4},
        **{"num_key_value_heads": 2, "intermediate_size": 96, "max_position_embeddings": 64},
        **{"bos_token_id": None, "eos_token_id": None},
    )
    return fit(model, load_text(), steps=80), chunk(load_text()[0])


def vit() -> Made:
    """Build a ViT over photographs."""
    model = _of_transformers(
        *("ViT", "ForImageClassification", "pixel_values"),
        **{"image_size": 32, "patch_size": 8, "hidden_size": 48, "num_hidden_layers": 4},
        **{"num_attention_heads": 4, "intermediate_size": 96, "num_labels": 18},
    )
    return fit(model, load_patches(), classify, steps=60), chunk(load_patches()[0])


def convnext() -> Made:
    """Build a ConvNeXt over photographs."""
    model = _of_transformers(
        *("ConvNext", "ForImageClassification", "pixel_values"),
        **{"depths": [2, 2, 2, 2], "hidden_sizes": [16, 24, 32, 48], "num_labels": 18},
        **{"patch_size": 2},
    )
    return fit(model, load_patches(), classify, steps=60), chunk(load_patches()[0])
