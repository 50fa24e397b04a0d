"""By a mask, padded batches of model families have the statistics of their samples alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest
import torch
from compat_models import captured, two_pass

pytest.importorskip("transformers", reason="needs transformers")

import position_models as models
from position_models import Family, Inputs
from tolerances import assert_near_states

import fmstats
from fmstats import Profile
from fmstats.profiles.coverage import UNMASKED, Coverage

FAMILIES: Mapping[str, Callable[[], Family]] = {
    "bert-sdpa": lambda: models.bert("sdpa"),
    "bert-eager": lambda: models.bert("eager"),
    "llama-sdpa-right": lambda: models.llama("sdpa", "right"),
    "llama-sdpa-left": lambda: models.llama("sdpa", "left"),
    "llama-eager-right": lambda: models.llama("eager", "right"),
    "llama-eager-left": lambda: models.llama("eager", "left"),
    "llama-sdpa-generates": lambda: models.llama_that_generates("sdpa"),
    "llama-eager-generates": lambda: models.llama_that_generates("eager"),
    "t5": models.t5,
    "vit": models.vit,
    "siglip2": models.siglip2,
    "wav2vec2": models.wav2vec2,
    "unet": models.unet,
    "experts": lambda: models.of_text(models.MixtureOfExperts().double()),
    "mixtral": models.mixtral,
}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    torch.manual_seed(0)
    return FAMILIES[request.param]()


def run(family: Family, batches: list[Inputs]) -> None:
    with torch.no_grad():
        for inputs in batches:
            family.run(family.model, inputs)


def track(family: Family, batches: list[Inputs], mask: object = None) -> tuple[Profile, Coverage]:
    with fmstats.track(family.model, mask=mask) as tracker:  # type: ignore[arg-type]
        run(family, batches)
        return tracker.stats(), tracker.coverage()


def test_padded_batches_are_as_their_samples_alone(family: Family) -> None:
    padded, coverage = track(family, [*family.padded], family.mask)
    alone, _ = track(family, [*family.alone])
    seen, _ = captured(family.model, lambda: run(family, [*family.alone]))
    assert {row.name for row in coverage if row.status == UNMASKED} == {*family.unmasked}
    assert [name for name in alone if name not in family.unmasked] == [*padded]
    for name, row in padded.info.items():
        state, want = row.stats.state, alone[name].state
        if name in family.unequal:
            assert not torch.equal(state["count"], want["count"]), name
            continue
        assert_near_states(state, want, family.accuracy, name)
        if name in seen:
            assert row.channel_dim is not None
            assert_near_states(state, two_pass(seen[name], row.channel_dim), family.accuracy, name)
    assert {name for name in padded if "/" not in name} <= seen.keys()


def test_without_the_mask_padding_counts(family: Family) -> None:
    padded, _ = track(family, [*family.padded], family.mask)
    whole, _ = track(family, [*family.padded])
    more = [name for name in padded if whole[name].count[0] > padded[name].count[0]]
    assert len(more) > len(padded) / 2
