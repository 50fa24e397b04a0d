"""Metadata may hold anything that JSON has: whoever reads it gets what it asked for, or nothing."""

from __future__ import annotations

import io
import itertools
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from profile_files import layer_of
from torch import nn

import fmstats
from fmstats.errors import FmstatsError
from fmstats.output.tables import join_blocks
from fmstats.profiles.metadata import (
    DEEPEST,
    MOST_BITS,
    MOST_SOURCES,
    UNKNOWN_MODEL,
    agree,
    count_profiles,
    merge_metadata,
    name_model,
    read_count,
    read_list,
    read_number,
    read_rows,
    read_text,
    read_texts,
    show_value,
)
from fmstats.profiles.profile import Profile
from fmstats.profiles.stacks import Stack
from fmstats.profiles.summary import describe_metadata, describe_run, find_left_out
from fmstats.storage.exports import format_json
from fmstats.storage.writing import encode

KEYS = (
    *("model", "structure", "of", "when", "per_call", "every", "data", "inputs", "backends"),
    *("samples", "batches", "passes", "passes_measured", "seconds", "started", "ended"),
    *("skipped", "skipped_count", "coverage", "interrupted", "resumed", "statistics_share"),
    *("profiles", "sources", "differs", "budget", "budget_spent", "steps", "checkpoint", "\ud800"),
)


def nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


NASTY: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 10**59, -(10**59), 10**400, 10**5000, 2**63, 0.5, -0.0, 1e308),
    *(math.nan, math.inf, -math.inf, "", "\ud800", "\x1b[31m", "x" * 10_000, "output", "<b>&"),
    *([], {}, [[]], {"a": 1}, {"": None}, [{"a": [None]}], [None, 1, "a"], [{"name": {}}]),
    *([{"name": 10**5000, "type": None}], ["\ud800"], nested(50), nested(5000), {"a": nested(900)}),
)
VALUES = st.sampled_from(NASTY) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
METADATA = st.dictionaries(st.sampled_from(KEYS) | st.text(), VALUES, max_size=5)


def model() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 3), nn.ReLU())


def refused(call: Callable[[], object]) -> str:
    """What a call says that fmstats refuses; "" if it does not."""
    try:
        call()
    except FmstatsError as error:
        return str(error)
    return ""


def show(profile: Profile, _: Path) -> None:
    describe_metadata(profile)
    find_left_out(profile.metadata)
    join_blocks(describe_run(profile))
    name_model(profile.metadata)


def merge(profile: Profile, _: Path) -> None:
    for one, two in ((profile, OTHER), (OTHER, profile)):
        assert len(refused(partial(one.merge, two))) < 30_000
    assert len(refused(partial(profile.merge, profile, missing="keep"))) < 30_000


def compare(profile: Profile, _: Path) -> None:
    other = Profile(profile.info, {"samples": 500, "of": "output", "inputs": {"resize": 1}})
    for one, two in ((profile, other), (other, profile), (profile, profile)):
        found = partial(one.compare, two, calibration=[two] * 3)
        if "cannot " not in refused(found):
            format_json(found().to_dict())
            str(one.compare(two))


def restore(profile: Profile, _: Path) -> None:
    with fmstats.track(model()) as tracker:
        if "cannot restore" not in refused(partial(tracker.restore, profile)):
            tracker.stats()
            repr(tracker)


def export(profile: Profile, _: Path) -> None:
    json.loads(format_json(profile.to_dict()))
    profile.scalars()
    profile.pooled(1)


def keep(profile: Profile, _: Path) -> None:
    """As `save`, without a disk."""
    encoded = partial(encode, Stack.of(profile), "p")
    why = refused(encoded)
    if not why:
        length = int.from_bytes(encoded()[:8], "little")
        text = json.loads(encoded()[8 : 8 + length])["__metadata__"]["fmstats"]
        assert repr(json.loads(text)["metadata"]) == repr(profile.metadata)
    assert not why or "nested 100 deep" in why or "a whole number of" in why


def report(profile: Profile, _: Path) -> None:
    pytest.importorskip("jinja2", reason="needs jinja2")
    from fmstats.report.writing import render

    assert render(profile).encode("utf-8").endswith(b"</html>")


def diagnose(profile: Profile, _: Path) -> None:
    str(profile.diagnose())
    format_json(profile.diagnose().to_dict())


def monitor(profile: Profile, _: Path) -> None:
    from fmstats.integrations.readings import Readings

    assert Readings(profile).read().errors == 0


def draw(profile: Profile, _: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    from fmstats.pictures import plot_profile

    plot_profile(profile).savefig(io.BytesIO(), format="svg")


OTHER = Profile({"0": layer_of(torch.ones(4, 3), type="Linear")}, {"samples": 1, "of": "output"})
REFUSING = (merge, compare, restore)  # at the first key that does not fit
CONSUMERS = (*REFUSING, show, export, keep, report, diagnose, monitor)


@pytest.mark.parametrize("consume", CONSUMERS)
def test_any_metadata(consume: Callable[[Profile, Path], None], tmp_path: Path) -> None:
    layers = {"0": layer_of(torch.ones(4, 3), type="Linear")}

    @settings(max_examples=20 if consume is report else 60)
    @given(METADATA)
    def run(metadata: dict[str, Any]) -> None:
        consume(Profile(layers, metadata), tmp_path)

    run()


@pytest.mark.parametrize("consume", CONSUMERS)
def test_every_key_with_every_value(
    tmp_path: Path, consume: Callable[[Profile, Path], None]
) -> None:
    layers = {"0": layer_of(torch.ones(4, 3), type="Linear")}
    if consume in REFUSING:
        for key, value in itertools.product(KEYS, NASTY):
            consume(Profile(layers, {key: value}), tmp_path)
    else:
        for first in range(len(NASTY)):
            values = itertools.cycle((*NASTY[first:], *NASTY[:first]))
            consume(Profile(layers, dict(zip(KEYS, values, strict=False))), tmp_path)


def test_a_picture_of_any_metadata(tmp_path: Path) -> None:
    layers = {"0": layer_of(torch.ones(4, 3), type="Linear")}
    for value in ({"a": 1}, 10**5000, "\x1b"):
        draw(Profile(layers, {"model": value, "samples": value}), tmp_path)


def test_what_is_read() -> None:
    assert [read_count({"n": n}, "n") for n in (0, 7, 2**63 - 1)] == [0, 7, 2**63 - 1]
    for odd in (-1, 2**63, True, 1.0, None, "1", [1]):
        assert read_count({"n": odd}, "n") is None
    assert [read_number({"n": n}, "n") for n in (2, -0.5, 1e308)] == [2.0, -0.5, 1e308]
    for odd in (math.nan, math.inf, 10**400, True, None, "1"):
        assert read_number({"n": odd}, "n") is None
    assert (read_text({"t": "a"}, "t", "b"), read_text({"t": 1}, "t", "b")) == ("a", "b")
    assert read_text({}, "t") == ""
    assert [name_model(m) for m in ({"model": "Net"}, {"model": {"a": 1}}, {"model": ""}, {})] == [
        "Net",
        *[UNKNOWN_MODEL] * 3,
    ]
    assert (list(read_list({"l": (1, "a")}, "l")), list(read_list({"l": "ab"}, "l"))) == (
        [1, "a"],
        [],
    )
    assert read_texts({"l": [1, "a", None, {"b": ["c"]}]}, "l") == [
        "1",
        "a",
        "None",
        "{'b': ['c']}",
    ]
    rows = [{"name": "a", "reason": None, "n": 1}, "no row", {"name": [2]}]
    assert read_rows({"r": rows}, "r") == [{"name": "a", "reason": None, "n": "1"}, {"name": "[2]"}]
    assert [count_profiles({"profiles": n}) for n in (3, 0, -1, "2", None)] == [3, 1, 1, 1, 1]
    assert count_profiles({}) == 1


def test_what_is_shown() -> None:
    assert show_value("a\x1b") == "a\x1b"  # whoever prints it makes it printable
    assert show_value({"a": ["b", 1.5, True, None]}) == "{'a': ['b', 1.5, True, None]}"
    assert show_value(10**5000) == "a whole number of 16,610 bits"
    assert show_value(-(10**4000)) == str(-(10**4000))
    assert show_value(nested(3), 2) == "[[...]]"
    assert show_value(nested(5000)) == "[" * 100 + "..." + "]" * 100
    here: list[Any] = []
    here.append(here)
    assert show_value(here, 1) == "[...]"


def written(value: Any) -> list[str]:
    """A value of the metadata in a text, in JSON and in a file."""
    profile = Profile({}, {"a": value})
    texts = [show_value(value), json.dumps(json.loads(format_json({"a": value}))["a"])]
    return [*texts, encode(Stack.of(profile), "p").decode(errors="replace")]


def test_the_largest_number_that_is_written_is_the_same_everywhere() -> None:
    for number in (2**MOST_BITS - 1, -(2**MOST_BITS - 1)):
        assert all(str(number) in text for text in written(number))
        assert json.loads(format_json({"a": number}))["a"] == number  # and no text
    for number in (2**MOST_BITS, -(2**MOST_BITS)):
        assert show_value(number) == f"a whole number of {MOST_BITS + 1:,} bits"
        assert str(number) not in format_json({"a": number})
        with pytest.raises(FmstatsError, match="a whole number of 14,001 bits"):
            written(number)


@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: (v,), lambda v: {"k": v}])
def test_a_file_holds_what_is_nested_as_deep_as_may_be(wrap: Callable[[Any], Any]) -> None:
    value: Any = "end"
    for _ in range(DEEPEST - 1):  # the metadata itself is the outermost mapping
        value = wrap(value)
    assert b"end" in encode(Stack.of(Profile({}, {"a": value})), "p")
    with pytest.raises(FmstatsError, match=r"the metadata is nested 100 deep and more$"):
        encode(Stack.of(Profile({}, {"a": wrap(value)})), "p")


def test_the_largest_count_and_the_first_beyond() -> None:
    assert read_count({"n": 2**63 - 1}, "n") == 2**63 - 1
    assert read_count({"n": 2**63}, "n") is read_count({"n": True}, "n") is None
    assert read_number({"n": True}, "n") is read_number({"n": math.inf}, "n") is None


def test_the_earlier_beginning_and_the_later_end_are_kept() -> None:
    for a, b in (("1", "2"), ("2", "1"), ("1", "1")):
        both = merge_metadata({"started": a, "ended": a}, {"started": b, "ended": b})
        assert (both["started"], both["ended"]) == (min(a, b), max(a, b))
    for key in ("started", "ended", "sources", "samples", "statistics_share"):
        for one, other in (("1", 2), (2, "1"), (["1"], [2])):
            assert merge_metadata({key: one}, {key: other})["differs"] == [key]


def test_sources_are_named_once_sorted_and_not_without_end() -> None:
    names = [f"{i:04}" for i in range(MOST_SOURCES + 1)]
    both = merge_metadata({"data": "b"}, {"sources": ["c", "a"], "data": "b"})
    assert (both["sources"], both["data"]) == (["a", "b", "c"], "b")
    assert (
        merge_metadata({"sources": names[:0:-1]}, {"sources": names[:3]})["sources"]
        == (names[:MOST_SOURCES])
    )


def test_what_one_profile_alone_tells_is_kept() -> None:
    """Also an option that the other does not know."""
    assert merge_metadata({"of": "input", "a": 1}, {"b": [2]}) == {
        **{"of": "input", "a": 1, "b": [2], "profiles": 2},
    }
    for a, b in (({"of": "input"}, {"of": "output"}), ({"per_call": True}, {"per_call": False})):
        with pytest.raises(FmstatsError, match=r"these are statistics of different things$"):
            merge_metadata(a, b)


def test_unknown_numbers_stay_unknown() -> None:
    a, b = {"samples": 5, "seconds": 1.5}, {"samples": None, "seconds": None}
    for one, other in ((a, b), (b, a), (b, b)):
        merged = merge_metadata(merge_metadata(one, other), a)
        assert (merged["samples"], merged["seconds"]) == (None, None)
        assert "differs" not in merged
    assert "samples: unknown" in describe_metadata(Profile({}, b))


def test_a_run_that_was_stopped_leaves_its_mark() -> None:
    for one, other in itertools.product((True, False), repeat=2):
        both = merge_metadata({"interrupted": one}, {"interrupted": other})
        assert both["interrupted"] is (one or other)
    assert merge_metadata({"interrupted": "a"}, {"interrupted": "b"})["differs"] == ["interrupted"]


def test_the_largest_share_is_kept() -> None:
    for a, b, kept in (
        *((None, None, None), (0.25, None, 0.25), (0.25, 0.5, 0.5), (math.nan, 0.5, 0.5)),
        *((0.0, None, 0.0), (0.0, 0.5, 0.5)),
    ):
        for one, other in ((a, b), (b, a)):
            merged = merge_metadata({"statistics_share": one}, {"statistics_share": other})
            assert merged["statistics_share"] == kept


@given(METADATA, METADATA, METADATA)
def test_merging_any_metadata_has_no_order(
    a: dict[str, Any], b: dict[str, Any], c: dict[str, Any]
) -> None:
    for metadata in (a, b, c):
        for key in ("of", "when", "per_call", "seconds"):  # refused, or rounded
            metadata.pop(key, None)
    assert_same(merge_metadata(a, b), merge_metadata(b, a))
    assert_same(merge_metadata(merge_metadata(a, b), c), merge_metadata(a, merge_metadata(b, c)))


def assert_same(a: dict[str, Any], b: dict[str, Any]) -> None:
    """NaN is itself here, and 1 is 1.0."""
    assert a.keys() == b.keys()
    assert all(agree(a[key], b[key]) or show_value(a[key]) == show_value(b[key]) for key in a)
