"""Names of rows: none is that of two, whatever modules are called, and all follow from the rows."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from profile_files import layer_of, profile_of
from torch import nn

import fmstats
from fmstats.errors import FmstatsError
from fmstats.profiles.row_names import MOST_CALLS, RowKey, name_rows, read_name
from fmstats.tracking.row_set import MOST_WIDTHS

# Modules of a ModuleDict may be called like this.
NAMES = st.text(alphabet="l@#0146", min_size=1, max_size=6)
WIDTHS = st.sampled_from([0, 1, 4, 64, 10])


def keys(calls: st.SearchStrategy[int | None]) -> st.SearchStrategy[list[RowKey]]:
    return st.lists(st.builds(RowKey, NAMES, calls, WIDTHS), max_size=8)


@given(st.one_of(keys(st.none()), keys(st.integers(0, 12))), st.randoms())
def test_each_row_has_a_name_of_its_own(rows: list[RowKey], random: object) -> None:
    names = name_rows(rows)
    assert len(set(names.values())) == len(set(rows))
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert name_rows(shuffled) == names
    assert all(name in (key.base, key.full) for key, name in names.items())


def test_names() -> None:
    relu, conv, odd = (
        RowKey("relu", None, 64),
        RowKey("conv", None, 64),
        RowKey("relu@256", None, 8),
    )
    assert name_rows([relu, conv]) == {relu: "relu", conv: "conv"}
    wide = relu._replace(width=256)
    assert name_rows([relu, wide, conv, odd]) == {
        **{relu: "relu@64", wide: "relu@256"},
        **{conv: "conv", odd: "relu@256@8"},
    }
    second = relu._replace(call=2)
    assert name_rows([second]) == {second: "relu#2"}
    assert list(name_rows([second, second._replace(width=9)]).values()) == ["relu#2@64", "relu#2@9"]
    assert list(name_rows([RowKey("a@1", 0, 5), RowKey("a#0", 1, 5)]).values()) == [
        "a@1#0",
        "a#0#1",
    ]


def test_calls_and_layers_do_not_go_together() -> None:
    with pytest.raises(
        FmstatsError, match=r"^two layers would be called 'l#0@4': .* per_call=True"
    ):
        name_rows([RowKey("l", 0, 4), RowKey("l#0", None, 4)])


@pytest.mark.parametrize(
    ("name", "want"),
    [
        *(("l#0", ("l", 0)), ("l#12", ("l", 12)), ("a#1#2", ("a#1", 2))),
        *((name, (name, None)) for name in ("l", "l#", "l#00", "l#01", "l#-1", "l#+1", "l# 1")),
        *((f"l#{digits}", (f"l#{digits}", None)) for digits in ("9" * 5000, "\u0663", "\u00b2")),
        (f"l#{MOST_CALLS - 1}", ("l", MOST_CALLS - 1)),
        (f"l#{MOST_CALLS}", (f"l#{MOST_CALLS}", None)),
    ],
    ids=lambda value: str(value)[:12].encode("unicode_escape").decode(),
)
def test_calls_are_read_from_old_names(name: str, want: tuple[str, int | None]) -> None:
    assert read_name(name, per_call=True) == want
    assert read_name(name, per_call=False) == (name, None)


def test_modules_called_like_rows() -> None:
    model = nn.ModuleDict({"l": nn.ReLU(), "l@3": nn.ReLU(), "l#0": nn.ReLU()})
    x = torch.ones(2, 3)
    for per_call in (False, True):
        with fmstats.track(model, per_call=per_call) as tracker:
            for y in (x, x[:, :2]):
                for layer in model.values():
                    layer(y)
        profile = tracker.stats()
        assert [(row.layer, row.call, row.stats.channels) for row in profile.info.values()] == [
            (name, call if per_call else None, width)
            for call, width in enumerate((3, 2))
            for name in model
        ]
        fresh = fmstats.track(model, per_call=per_call)
        fresh.restore(profile)
        fresh.close()
        assert fresh.stats().to_dict()["layers"] == profile.to_dict()["layers"]


def test_rows_that_were_renamed_are_layers_of_their_new_names() -> None:
    row = layer_of(torch.ones(2, 3), layer="conv")
    profile = profile_of({"conv": row, "block.conv": row, "conv@3": row})
    assert [known.layer for known in profile.info.values()] == ["conv", "block.conv", "conv@3"]


@pytest.mark.parametrize("missing", ["refuse", "keep", "drop"])
def test_widths_of_one_model_merge_in_any_order(missing: str) -> None:
    """Shards, ranks or days whose data called a layer otherwise."""
    model, parts = nn.Sequential(nn.Identity(), nn.ReLU()), []
    for widths in ((64,), (64, 256), (256,), (64,)):
        with fmstats.track(model) as tracker:
            for width in widths:
                model(torch.randn(5, width))
        parts.append(tracker.stats())
    want = {"0@64": 15, "1@64": 15, "0@256": 10, "1@256": 10}
    if missing == "drop":
        parts = parts[:2] + parts[3:]
        want = {"0": 15, "1": 15}
    for a, *others in itertools.permutations(parts):
        merged = a.merge(*others, missing=missing)
        assert {name: int(stats.count[0]) for name, stats in merged.items()} == want
        assert a.merge(others[0].merge(*others[1:], missing=missing), missing=missing).keys() == (
            merged.keys()
        )


def test_the_docs_tell_the_bounds() -> None:
    text = (Path(__file__).parent.parent / "docs" / "options.md").read_text()
    assert f"at most {MOST_WIDTHS} rows" in text
    assert f"beyond the first {MOST_CALLS:,}" in text
