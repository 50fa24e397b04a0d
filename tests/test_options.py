"""The options of `track`: one declaration, and what repeats it says the same."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Callable
from dataclasses import FrozenInstanceError, fields
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import typer

import fmstats
from fmstats.commands.app import app
from fmstats.commands.check import check as check_command
from fmstats.commands.profile import profile as profile_command
from fmstats.commands.tracking import Measure, Of, OnError, TrackingOptions
from fmstats.profiles.metadata import OPTIONS
from fmstats.tracking.options import TrackOptions, describe_option

DOCS = Path(__file__).parent.parent / "docs"
DECLARED = {option.name: option for option in fields(TrackOptions)}
SHARED = {name for name, option in DECLARED.items() if option.metadata["shared"]}


def parameters(function: Callable[..., Any]) -> dict[str, tuple[object, object]]:
    """The default and the type, as it is written, of each parameter that is an option."""
    found = inspect.signature(function).parameters
    return {n: (found[n].default, found[n].annotation) for n in found if n in DECLARED}


@pytest.mark.parametrize(
    ("function", "names"), [(fmstats.track, set(DECLARED)), (fmstats.profile, SHARED)]
)
def test_signatures_repeat_the_declaration(function: Callable[..., Any], names: set[str]) -> None:
    declared = {name: (option.default, option.type) for name, option in DECLARED.items()}
    assert parameters(function) == {name: declared[name] for name in names}


def test_track_has_no_option_beside_those_declared() -> None:
    assert list(inspect.signature(fmstats.track).parameters) == ["model", *DECLARED]


@pytest.mark.parametrize(
    ("function", "names"), [(fmstats.track, set(DECLARED)), (fmstats.profile, SHARED)]
)
def test_docstrings_describe_every_option(function: Callable[..., Any], names: set[str]) -> None:
    arguments = (function.__doc__ or "").split("Args:")[1].split("Raises:")[0]
    assert names <= set(re.findall(r"^        (\w+): ", arguments, re.MULTILINE))


def test_the_command_line_has_the_same_defaults_and_descriptions() -> None:
    found = parameters(profile_command)
    assert found.keys() == SHARED
    assert {name: default for name, (default, _) in found.items()} == {
        name: DECLARED[name].default for name in found
    }
    group: Any = typer.main.get_command(app)
    helps = {option.name: option.help for option in group.commands["profile"].params}
    for name in found:
        assert helps[name].removesuffix(" May be repeated.") == describe_option(name)


# What a command line calls otherwise, or decides itself.
RENAMED = {"compile": "compiled", "progress": "no_progress"}
ITS_OWN = {"model", "data", "group"}


def test_the_command_line_has_every_option_of_profile() -> None:
    own, command = (inspect.signature(f).parameters for f in (fmstats.profile, profile_command))
    assert own.keys() >= SHARED
    for name in own.keys() - ITS_OWN:
        there = command[RENAMED.get(name, name)].default
        assert there == (not own[name].default if name == "progress" else own[name].default), name


def test_check_has_every_option_of_a_run() -> None:
    check, profile = (inspect.signature(f).parameters for f in (check_command, profile_command))
    assert profile.keys() - check.keys() == {"depth", "sort", "top", "as_csv"}
    own = inspect.signature(fmstats.check).parameters
    assert {"name", "prom", "prom_layers", "report", "baseline", "threshold"} < own.keys()
    assert own.keys() & fmstats_profile_names() == {"model", "data"}


def fmstats_profile_names() -> set[str]:
    return set(inspect.signature(fmstats.profile).parameters)


def test_the_command_line_offers_the_choices_that_are_declared() -> None:
    command = inspect.signature(profile_command).parameters
    chosen = {name for name in SHARED if DECLARED[name].metadata["choices"]}
    assert chosen == {"of", "on_error", "mask_mismatch", "histogram"}
    for name in chosen:
        offered, _ = get_args(command[name].annotation)
        assert {each.value for each in offered} == set(DECLARED[name].metadata["choices"]), name


def test_options_of_tracking_reach_the_run_as_python_takes_them() -> None:
    by_default = TrackOptions().shared()
    assert TrackingOptions().arguments() == by_default
    asked = TrackingOptions(
        include=["a", "b"],
        of=Of.input,
        channel_dim="blocks.*=2, head=-1",
        per_call=True,
        on_error=OnError.fatal,
        saturation=["*.act=-1,1", "relu=,6", "a=b=0,"],
        functional="relu,*/add",
        mask="encoder=src_mask",
        group_names=[],
        measure=[Measure.absolute],
    )
    assert asked.arguments() == by_default | {
        "include": ["a", "b"],
        "of": "input",
        "channel_dim": {"blocks.*": 2, "head": -1},
        "per_call": True,
        "on_error": "raise",
        "saturation": {"*.act": (-1.0, 1.0), "relu": (None, 6.0), "a=b": (0.0, None)},
        "functional": ["relu", "*/add"],
        "mask": {"encoder": "src_mask"},
        "measure": ["abs"],
    }


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"channel_dim": "first"}, "--channel-dim 'first' is neither 'auto' nor a number"),
        ({"channel_dim": "a=1,b"}, "--channel-dim 'a=1,b' is neither 'auto' nor a number"),
        ({"channel_dim": "a=x"}, "--channel-dim 'a=x' is neither 'auto' nor a number"),
        ({"mask": "encoder="}, "--mask 'encoder=': give auto, the name of an argument"),
        ({"saturation": ["act"]}, "--saturation 'act': give GLOB=LOW,HIGH"),
        ({"saturation": ["act=1"]}, "--saturation 'act=1': give GLOB=LOW,HIGH"),
        ({"saturation": ["act=0,x"]}, "--saturation 'act=0,x': give GLOB=LOW,HIGH"),
        ({"saturation": ["=0,1"]}, "--saturation '=0,1': give GLOB=LOW,HIGH"),
        ({"functional": "relu,"}, "--functional 'relu,': choose auto, on, off"),
    ],
)
def test_texts_that_are_not_understood(options: dict[str, Any], message: str) -> None:
    with pytest.raises(fmstats.FmstatsError, match=f"^{re.escape(message)}"):
        TrackingOptions(**options).arguments()


def test_the_table_of_the_docs_is_that_of_the_declaration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(DOCS)
    table = importlib.import_module("options_table")
    page = (DOCS / "options.md").read_text()
    assert table.renew(page) == page, "run python docs/options_table.py"


def test_profiles_keep_the_options_that_they_must_share_to_merge() -> None:
    assert tuple(TrackOptions().kept()) == OPTIONS
    assert TrackOptions(of="input", per_call=True).kept() == {
        **{"of": "input", "when": "always", "per_call": True, "masked": False}
    }
    assert TrackOptions(mask="auto").kept()["masked"] is True


def test_a_run_tells_and_compares_every_option_that_it_has(tmp_path: Path) -> None:
    model, batches = torch.nn.Sequential(torch.nn.Linear(3, 4)), [torch.ones(2, 3)]
    file = tmp_path / "run.fmstats"
    run = fmstats.profile(model, batches, zero_tol=0.5, checkpoint=file)
    assert {n: v for n, v in run.metadata["options"].items() if n in DECLARED} == {
        **TrackOptions(zero_tol=0.5).shared()
    }
    others = {
        **{"include": "0", "exclude": "1", "of": "input", "every": 2, "channel_dim": 1},
        **{"zero_tol": 0.25, "backend": "torch", "per_call": True, "on_error": "raise"},
        **{"budget": 0.5, "saturation": {"0": (0, 1)}, "functional": ["relu"]},
        **{"mask": "input", "mask_mismatch": "raise", "groups": "input"},
        **{"group_names": ["a"], "max_groups": 2},
        **{"measure": "abs", "histogram": "channel", "resolution": 2},
    }
    assert others.keys() == SHARED
    for name, value in others.items():
        options = {"zero_tol": 0.5, name: value}
        with pytest.raises(fmstats.FmstatsError, match=rf"another run.*\b{name}: "):
            fmstats.profile(model, batches, checkpoint=file, **options)


def test_options_stay_as_they_were_checked() -> None:
    options = TrackOptions()
    for option in fields(options):
        with pytest.raises(FrozenInstanceError):
            setattr(options, option.name, "anything")
    assert options == TrackOptions()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"of": "outputs"}, r"^of='outputs': choose 'output' or 'input' or 'grad_output'$"),
        ({"when": "training"}, r"^when='training': choose 'always' or 'train' or 'eval'$"),
        ({"on_error": None}, r"^on_error=None: choose 'raise' or 'warn'$"),
        ({"every": True}, r"^every=True: give a whole number"),
        ({"budget": 1}, r"^budget=1: give a share of the forward time"),
        ({"every": 2, "budget": 0.1}, r"^every=2 and budget=0\.1: give one of them$"),
        ({"zero_tol": -1}, r"^zero_tol must be finite and not negative, got -1"),
        ({"grad_scale": 2.0}, r"^grad_scale= is for of='grad_output', not of='output'$"),
        ({"of": "grad_output", "grad_scale": 0}, r"^grad_scale=0: give a finite number above 0"),
    ],
)
def test_options_are_checked_where_they_are_declared(options: dict[str, Any], message: str) -> None:
    with pytest.raises(fmstats.FmstatsError, match=message):
        TrackOptions(**options)
