"""Layers are chosen by name, glob, regex, type, function, and lists of these."""

from __future__ import annotations

import re
from collections import OrderedDict

import pytest
from torch import nn

import fmstats
from fmstats.errors import FmstatsError
from fmstats.models.selection import ROOT, Selection, is_leaf, matches, select

LEAVES = ["features.0", "features.1", "features.2", "head.0", "head.1"]


@pytest.fixture
def model() -> nn.Module:
    features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3))
    head = nn.Sequential(nn.Linear(5, 6), nn.ReLU6())
    return nn.Sequential(OrderedDict(features=features, head=head))


def wide(name: str, module: nn.Module) -> bool:
    return getattr(module, "out_channels", 0) == 5


@pytest.mark.parametrize(
    ("include", "names"),
    [
        (None, LEAVES),
        ("*", LEAVES),
        ("features.0", ["features.0"]),
        ("features", ["features"]),
        (ROOT, [ROOT]),
        ("features.*", LEAVES[:3]),
        ("*.1", ["features.1", "head.1"]),
        ("feat*s", ["features"]),
        ("[fh]e*.0", ["features.0", "head.0"]),
        (re.compile(r"^head\."), LEAVES[3:]),
        (re.compile(r"\.[01]$"), ["features.0", "features.1", "head.0", "head.1"]),
        (re.compile("features$"), ["features"]),
        (nn.Conv2d, ["features.0", "features.2"]),
        (nn.Hardtanh, ["head.1"]),  # ReLU6 is a Hardtanh
        (nn.Sequential, [ROOT, "features", "head"]),
        (wide, ["features.2"]),
        (lambda name, _: name.endswith("0"), ["features.0", "head.0"]),
        (["head.1", nn.Conv2d], ["features.0", "features.2", "head.1"]),
        (("head", re.compile("1$")), ["features.1", "head", "head.1"]),
        ({nn.ReLU, nn.ReLU6}, ["features.1", "head.1"]),
    ],
)
def test_include(model: nn.Module, include: Selection, names: list[str]) -> None:
    chosen = select(model, include, None)
    assert list(chosen) == names
    assert all(chosen[n] is (model if n == ROOT else model.get_submodule(n)) for n in names)


@pytest.mark.parametrize(
    ("exclude", "names"),
    [
        ("head.*", LEAVES[:3]),
        (re.compile("^features"), LEAVES[3:]),
        (nn.Conv2d, ["features.1", "head.0", "head.1"]),
        (wide, ["features.0", "features.1", "head.0", "head.1"]),
        (["*.1", nn.Linear], ["features.0", "features.2"]),
        ([], LEAVES),
    ],
)
def test_exclude(model: nn.Module, exclude: Selection, names: list[str]) -> None:
    assert list(select(model, None, exclude)) == names


def test_include_and_exclude(model: nn.Module) -> None:
    assert list(select(model, ["features.*", "head"], nn.ReLU)) == [
        "features.0",
        "features.2",
        "head",
    ]


def test_track_takes_the_same_words(model: nn.Module) -> None:
    with fmstats.track(model, include=["features.*", nn.Linear], exclude=nn.ReLU) as tracker:
        assert [row.name for row in tracker.coverage()] == ["features.0", "features.2", "head.0"]


@pytest.mark.parametrize(
    ("include", "message"),
    [
        (
            "featrues.0",
            r"^include='featrues\.0' matches none of the 8 modules; closest: features\.0,",
        ),
        (re.compile("^conv"), r"^include='\^conv' matches none of the 8 modules; closest: "),
        (
            nn.BatchNorm2d,
            r"^include=BatchNorm2d matches no module; the model is made of "
            r"Conv2d, Linear, ReLU, ReLU6, Sequential$",
        ),
        (lambda name, module: False, r"^include=<function .*> matches none of the 8 modules$"),
        (["head.0", "tail"], r"^include='tail' matches none"),
        (3, r"^cannot select layers by 3: give a glob, a compiled regex, a module type"),
        (nn.ReLU(), r"^cannot select layers by ReLU\(\)"),
        (int, r"^cannot select layers by <class 'int'>"),
        ([["head.0"]], r"^cannot select layers by \['head\.0'\]"),
    ],
)
def test_selectors_that_take_nothing(model: nn.Module, include: Selection, message: str) -> None:
    with pytest.raises(FmstatsError, match=message):
        fmstats.track(model, include=include)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_an_exclude_that_takes_nothing_is_a_slip(model: nn.Module) -> None:
    with pytest.raises(FmstatsError, match=r"^exclude='haed\.\*' matches none of the 8 modules"):
        select(model, None, "haed.*")


@pytest.mark.parametrize(("include", "exclude"), [(nn.ReLU, "*"), ([], None)])
def test_nothing_left(model: nn.Module, include: Selection, exclude: Selection) -> None:
    with pytest.raises(FmstatsError, match=r"nothing to track in Sequential: .*none of its 8 mod"):
        select(model, include, exclude)


def test_a_model_that_is_one_layer() -> None:
    assert list(select(nn.ReLU(), None, None)) == [ROOT]


def test_a_shared_module_is_one_layer() -> None:
    act = nn.ReLU()
    assert list(select(nn.Sequential(act, nn.Linear(2, 2), act), None, None)) == ["0", "1"]


def test_leaves(model: nn.Module) -> None:
    assert [n for n, m in model.named_modules() if is_leaf(m)] == LEAVES


def test_names_match_in_their_case(model: nn.Module) -> None:
    assert not matches("HEAD.*", "head.0", model)
    assert matches("h*", "head.0", model)
