"""Where the channels of every layer of real models are, whatever the number of samples."""

from __future__ import annotations

from fnmatch import fnmatch

import pytest
import torch
from channel_table import Entry
from channel_table_attention import ATTENTION
from channel_table_generators import GENERATORS
from channel_table_images import IMAGES
from channel_table_signals import SIGNALS
from channel_table_text import TEXTS
from channel_table_vision import VISION
from compat_models import leaves_of, tensors_in

import fmstats

TABLE: dict[str, Entry] = {**IMAGES, **TEXTS, **VISION, **ATTENTION, **GENERATORS, **SIGNALS}


@pytest.mark.parametrize("name", TABLE)
def test_every_layer_has_its_channels_where_its_model_has_them(name: str) -> None:
    entry = TABLE[name]
    torch.manual_seed(0)
    model = entry.build().eval()
    leaves = dict(leaves_of(model))
    for batch in (1, *entry.batches):
        inputs = entry.inputs(batch)
        with torch.no_grad():
            torch.manual_seed(1)  # ViT MAE draws an order of its tokens
            plain = list(tensors_in(model(**inputs)))
            torch.manual_seed(1)
            with fmstats.track(model) as tracker:
                tracked = list(tensors_in(model(**inputs)))
        assert all(map(torch.equal, plain, tracked))
        assert len(plain) == len(tracked) > 0
        rows = {row.layer: row for row in tracker.stats().info.values() if row.layer in leaves}
        got, want = {}, {}
        for layer, row in rows.items():
            expected, count = entry.expect(layer, leaves[layer]), len(row.shape)
            # A dim of size 1 is one channel, as the whole tensor is.
            got[layer] = None if row.shape[row.channel_dim or 0] == 1 else row.channel_dim
            want[layer] = None if expected is None else expected % count
            if expected is not None and row.shape[expected] == 1:
                want[layer] = None
        wrong = {k: (leaves[k], rows[k].shape, got[k], want[k]) for k in rows if got[k] != want[k]}
        assert not wrong, f"a batch of {batch}: {wrong}"
        guessed = {
            row.name
            for row in tracker.coverage()
            if row.name in rows and ("a guess" in row.channels or "assumed" in row.channels)
        }
        assert guessed == fitting(rows, entry.guessed)
        assert set(leaves) - set(rows) == fitting(leaves, entry.silent)


def fitting(names: object, patterns: object) -> set[str]:
    """The names that a pattern fits."""
    return {n for n in names if any(fnmatch(n, p) for p in patterns)}  # type: ignore[attr-defined]
