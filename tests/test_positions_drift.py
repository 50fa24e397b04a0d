"""Padding alone is drift without a mask, and none with one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers", reason="needs transformers")

from position_models import VOCABULARY, draw_sentences, lay_sentences
from transformers import BertConfig, BertModel

import fmstats
from fmstats import Comparison, Profile

SHARDS = 4


@pytest.fixture(scope="module")
def model() -> BertModel:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=VOCABULARY, hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=24, max_position_embeddings=64,
    )  # fmt: skip
    return BertModel(config).eval()


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(1)


def draw() -> list[Tensor]:
    return draw_sentences(torch.randint(5, 21, (240,)).tolist())


def profile(
    model: BertModel, sentences: list[Tensor], width: int, size: int, mask: str | None
) -> Profile:
    """The profile of batches of so many sentences, padded to a width."""
    starts = range(0, len(sentences), size)
    batches = [lay_sentences(sentences[start : start + size], width) for start in starts]
    # These are made of no input: they tell the width of batches, with or without a mask.
    made_of_none = ["embeddings.position_embeddings", "embeddings.token_type_embeddings"]
    return fmstats.profile(
        model, batches, batch_dim=0, mask=mask, exclude=made_of_none, progress=False
    )


def compare(
    model: BertModel, now: list[Tensor], before: list[Tensor], mask: str | None
) -> Comparison:
    """What is padded to 64 with what is padded to 32, in batches of other sizes."""
    parts = [profile(model, before[shard::SHARDS], 32, 24, mask) for shard in range(SHARDS)]
    baseline = profile(model, before, 32, 24, mask)
    return profile(model, now, 64, 40, mask).compare(baseline, calibration=parts)


def test_padding_is_no_drift_with_a_mask(model: BertModel) -> None:
    sentences = draw()
    comparison = compare(model, sentences, sentences, "auto")
    assert (comparison.verdict, comparison.left_out) == ("no drift", {})
    assert comparison.score < 1e-4


def test_other_sentences_are_no_drift_with_a_mask(model: BertModel) -> None:
    comparison = compare(model, draw(), draw(), "auto")
    assert comparison.verdict == "no drift"
    assert 0.5 < comparison.score <= 1.5  # about 1 by chance


def test_padding_is_drift_without_a_mask(model: BertModel) -> None:
    sentences = draw()
    comparison = compare(model, sentences, sentences, None)
    assert comparison.drift
    assert comparison.score > 5
