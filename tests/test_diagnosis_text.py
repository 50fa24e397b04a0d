"""What people read of a diagnosis: golden texts, short also where much is wrong."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from diagnosis_profiles import healthy, layer_of, profile_of, unseen

from fmstats import LayerProfile, Profile
from fmstats.diagnosis.observed import SHOWN
from fmstats.diagnosis.rules import RULES
from fmstats.diagnosis.text import MOST_SHOWN


def silent(*channels: int) -> LayerProfile:
    x = healthy()
    x[:, list(channels)] = 0
    return layer_of(x)


def test_a_whole_diagnosis() -> None:
    bad = healthy()
    bad[3, 1] = math.nan
    quiet = healthy().abs()
    layers = [silent(1), silent(1), layer_of(bad), layer_of(bad), layer_of(quiet, "Linear")]
    profile = profile_of(*layers, layer_of(healthy(20), "Linear"), unseen())
    assert str(profile.diagnose(["non-finite", "never-active", "one-sided"])) == (
        "error    non-finite, 1 layer\n"
        f"  do: {RULES['non-finite'].advice}\n"
        "  c  1 of 4 channels (1): 1 NaN and 0 infinite of 4,000 elements, made here (no layer "
        "before it had any); again in 1 layer (d)\n"
        "warning  never-active, 1 layer\n"
        f"  do: {RULES['never-active'].advice}\n"
        "  a  1 of 4 channels (1): exactly 0 in each of 1,000 finite elements; again in 1 layer "
        "(b)\n"
        "info     one-sided, 1 layer\n"
        f"  do: {RULES['one-sided'].advice}\n"
        "  e  4 of 4 channels (0, 1, 2, 3): 4 never below 0\n"
        "not enough data\n"
        "  20 finite elements seen, 300 needed: 1 layer (f); no verdict on never-active, "
        "one-sided\n"
        "  nothing was seen: 1 layer (g); no verdict on non-finite, never-active"
    )


def test_the_tail_is_counted() -> None:
    bad = healthy()
    bad[:, 0] = bad[:, 0].abs()
    layers = [layer_of(bad, "Linear"), layer_of(healthy(), "Linear")] * 8
    *_, last = str(profile_of(*layers).diagnose(["one-sided"])).splitlines()
    assert MOST_SHOWN["info"] == 3
    assert last == "  and in 5 layers (g, i, k and 2 more)"


def test_names_are_as_wide_as_the_longest() -> None:
    profile = Profile({name: silent(1) for name in ("a", "long.name", "b.c")}, {})
    separate = [replace(f, follows=None) for f in profile.diagnose(["never-active"])]
    diagnosis = replace(profile.diagnose(["never-active"]), findings=separate)
    lines = [line for line in str(diagnosis).splitlines() if "of 4 channels" in line]
    assert [line.split("1 of 4")[0] for line in lines] == [
        *("  a          ", "  long.name  ", "  b.c        "),
    ]


def test_nothing_found_is_not_said_without_the_rest() -> None:
    text = str(profile_of(layer_of(healthy(20))).diagnose(["dead"]))
    assert text == (
        "nothing found\nnot enough data\n"
        "  20 finite elements seen, 300 needed: 1 layer (a); no verdict on dead"
    )


@pytest.mark.parametrize("dead", [SHOWN, SHOWN + 1])
def test_long_lists_of_channels_are_cut(dead: int) -> None:
    x = healthy(400, 20)
    x[:, :dead] = 0
    (finding,) = profile_of(layer_of(x)).diagnose(["never-active"])
    named = ", ".join(map(str, range(SHOWN))) + (", ..." if dead > SHOWN else "")
    assert finding.message.startswith(f"{dead} of 20 channels ({named}): ")
    assert len(finding.channels) == dead


def test_reasons_are_cut() -> None:
    layers = [layer_of(torch.ones(n, 2)) for n in range(20, 27)]
    *_, last = str(profile_of(*layers).diagnose(["dead"])).splitlines()
    assert last == "  and 3 layers more"


def test_a_dead_channel_behind_which_a_bias_stays() -> None:
    x = healthy()
    x[:, 1] = 0.125
    text = str(profile_of(silent(1), silent(1), layer_of(x)).diagnose(["never-active", "constant"]))
    assert "again in 1 layer (b); constant, but not 0, in 1 layer after it (c: 0.125)" in text
    assert "add that constant to the bias of the next layer" in text
