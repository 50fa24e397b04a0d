"""Profiles for the tests of the report: hostile, broken, empty, merged, and large ones."""

from __future__ import annotations

import torch
from profile_files import layer_of, profile_of

from fmstats.profiles.profile import LayerProfile, Profile
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds

MARKUP = "<script>alert(1)</script><img src=x onerror=alert(2)>"
HOSTILE = (
    MARKUP,
    "</script><script>document.title='owned'</script>",
    "\"'><svg onload=alert(3)>&amp;",
    "{{ 7 * 7 }}{% raw %}",
    "\u202egnp.exe\u2066",
    "a\x00b\nc\ud800",
    "<!--<script>",
    "-->]]>",
    "x" * 10_000,
)


def hostile_profile() -> Profile:
    """Layers whose names, types and metadata are made to break out of a page."""
    torch.manual_seed(0)
    info = {name: layer_of(torch.randn(40, 3), type=name) for name in HOSTILE}
    lists = {"coverage": [{"name": MARKUP, "type": MARKUP, "status": MARKUP}, MARKUP]}
    return Profile(info, {"model": MARKUP, MARKUP: MARKUP, **lists, "skipped": [MARKUP, 3]})


def broken_profile() -> Profile:
    """Layers of NaN, of infinities, beyond float32, one that saw nothing, one of no channels."""
    torch.manual_seed(0)
    x = torch.randn(400, 4)
    mixed = x.clone()
    mixed[0, 0], mixed[1, 1], mixed[2, 2] = torch.nan, torch.inf, -torch.inf
    unseen = ChannelStats(State.identity(2))
    return profile_of(
        {
            "sound": layer_of(x),
            "mixed": layer_of(mixed),
            "nan": layer_of(torch.full_like(x, torch.nan)),
            "inf": layer_of(torch.full_like(x, torch.inf)),
            "huge": layer_of(x.double() * 1e100, dtype="float64"),
            "mask": layer_of(torch.full_like(x, torch.finfo(torch.float32).min)),
            "zeros": layer_of(torch.zeros(400, 4), Thresholds(0.0, 0.0, 6.0), type="ReLU6"),
            "unseen": LayerProfile("ReLU", 1, (0, 2), "float32", 0, "reference", unseen),
            "narrow": layer_of(torch.zeros(4, 0)),
        }
    )


def large_profile(layers: int = 500, channels: int = 400, seed: int = 0) -> Profile:
    """So many layers of so many channels, all numbers different, with findings in each layer."""
    torch.manual_seed(seed)
    info = {}
    for number in range(layers):
        rectified = number % 2 == 1
        limits = Thresholds(0.0, 0.0, 6.0) if rectified else Thresholds()
        kind = "ReLU6" if rectified else "Linear"
        stats = ChannelStats(draw_state(channels, rectified), limits)
        shape = (1000, channels)
        name = f"blocks.{number // 4}.mlp.{number % 4}"
        info[name] = LayerProfile(kind, 1, shape, "float32", 1, "reference", stats)
    return profile_of(info, samples=1000)


def draw_state(channels: int, rectified: bool) -> State:
    """Numbers as a layer could have them; of ten channels one is silent and one has a NaN."""
    count, std = 1000, torch.rand(channels) + 0.1
    mean = torch.rand(channels) if rectified else torch.randn(channels)
    silent = (torch.rand(channels) < 0.1) & rectified
    some = torch.randint(1, 900, (channels,))
    fields = {
        "count": torch.full((channels,), count),
        "nan": (torch.rand(channels) < 0.1).long() * ~silent,
        "zeros": torch.where(silent, count, some * rectified),
        "sat_low": torch.where(silent, count, some * rectified),
        "sat_high": torch.randint(0, 90, (channels,)) * rectified * ~silent,
        "mean": torch.where(silent, 0, mean),
        "m2": torch.where(silent, 0, std**2 * count),
        "min": (mean - 3 * std) * (not rectified),
        "max": torch.where(silent, 0, mean + 3 * std),
    }
    nothing = torch.zeros(channels, dtype=torch.int64)
    return State.of({"pos_inf": nothing, "neg_inf": nothing, **fields})


def grouped_profile() -> Profile:
    """Two layers, and of two groups one that has a dead channel and lacks a layer."""
    torch.manual_seed(0)
    cats, dogs, odd = torch.randn(600, 6), torch.randn(400, 6) + 5, torch.randn(400, 3)
    cats[:, 0] = 0
    both = torch.cat([cats, dogs])
    info = {"a.relu": layer_of(both, type="ReLU"), "b": layer_of(odd)}
    groups = {
        "cat": {"a.relu": layer_of(cats, type="ReLU")},
        MARKUP: {"a.relu": layer_of(dogs, type="ReLU"), "b": layer_of(odd)},
    }
    return Profile(info, {"model": "Net", "of": "output", "samples": 1000}, groups)
