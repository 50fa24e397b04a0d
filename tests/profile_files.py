"""Profiles and profile files made by hand, for the tests of storage and of merging."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.numpy import load as unpack
from safetensors.numpy import save as pack
from torch import Tensor

from fmstats.backends import choose_backend
from fmstats.profiles.profile import LayerProfile, Profile
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.measures import ALWAYS, Measures
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import view_of
from fmstats.storage.checksum import BLANK


def layer_of(
    x: Tensor,
    thresholds: Thresholds | None = None,
    measures: Measures = ALWAYS,
    **known: Any,
) -> LayerProfile:
    """The layer that gave `x`, with its channels in dim 1."""
    limits = thresholds or Thresholds()
    state = State.identity(x.shape[1], measures=measures)
    choose_backend("reference", x.device).accumulate(state, x, view_of(x, 1), limits)
    usual = {"type": "Conv2d", "channel_dim": 1, "shape": tuple(x.shape), "dtype": "float32"}
    usual |= {"calls": 1, "backend": "reference"}
    return LayerProfile(**{**usual, **known}, stats=ChannelStats(state, limits))


def profile_of(layers: Mapping[str, LayerProfile], **metadata: Any) -> Profile:
    return Profile(layers, {"model": "Net", "of": "output", "when": "always", **metadata})


def some_profile(seed: int = 0, measures: Measures = ALWAYS, **metadata: Any) -> Profile:
    """Three layers with everything in them: NaN, infinities, bounds, a channel of no number."""
    torch.manual_seed(seed)
    x = torch.randn(20, 5)
    x[0, 0], x[1, 0], x[2, 0] = torch.nan, torch.inf, -torch.inf
    x[:, 1], x[:, 2], x[3, 3] = torch.nan, 0.0, -0.0
    info = {
        "b.conv": layer_of(x, measures=measures),
        "a.relu": layer_of(
            x.relu()[:, :3], Thresholds(0.25, 0.0, 1.5), measures, type="ReLU", calls=7
        ),
        "head": layer_of(
            torch.randn(4, 2), measures=measures, backend="cpu, torch", dtype="bfloat16"
        ),
    }
    return profile_of(info, **metadata)


def assert_same_profiles(a: Profile, b: Profile) -> None:
    """Bit for bit, in the same order."""
    assert list(a.info) == list(b.info)
    for name, layer in a.info.items():
        held = zip(layer.stats.state.held, b[name].state.held, strict=True)
        assert all(torch.equal(mine, theirs) for mine, theirs in held), name
        assert layer.stats.measures == b[name].measures
        assert layer.stats.thresholds == b[name].thresholds
        known = [{k: v for k, v in vars(p.info[name]).items() if k != "stats"} for p in (a, b)]
        assert known[0] == known[1]
    assert repr(a.metadata) == repr(b.metadata)  # NaN does not equal itself


def open_file(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The tensors and the JSON document of a profile file."""
    content = path.read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return unpack(content), json.loads(header["__metadata__"]["fmstats"])


def close_file(path: Path, tensors: Mapping[str, Any], document: Any) -> None:
    texts = {"sha256": "e" * 64, "fmstats": json.dumps(document)}
    path.write_bytes(seal(pack(dict(tensors), texts)))


def seal(content: bytes) -> bytes:
    """A profile file whose bytes were changed, with the checksum that fits them."""
    length = 8 + int.from_bytes(content[:8], "little")
    head, data = content[:length], content[length:]
    old = json.loads(head[8:])["__metadata__"]["sha256"].encode()
    new = hashlib.sha256(head.replace(old, BLANK.encode(), 1) + data).hexdigest()
    return head.replace(old, new.encode(), 1) + data
