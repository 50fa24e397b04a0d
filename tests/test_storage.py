"""Profile files: nothing is lost, nothing is half written, nothing false is believed."""

from __future__ import annotations

import json
import math
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from profile_files import (
    assert_same_profiles,
    close_file,
    layer_of,
    open_file,
    profile_of,
    some_profile,
)
from safetensors.numpy import save as pack
from torch import nn

import fmstats
from fmstats.errors import FmstatsError
from fmstats.profiles.profile import Profile
from fmstats.statistic.channel_stats import ChannelStats
from fmstats.statistic.fields import FIELDS
from fmstats.statistic.state import State
from fmstats.statistic.thresholds import Thresholds
from fmstats.storage import load, reading, save

PICKLE = pickle.dumps({"a": 1})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save(some_profile(samples=20), tmp_path / "p.fmstats")
    return tmp_path / "p.fmstats"


def test_nothing_is_lost(tmp_path: Path) -> None:
    profile = some_profile(data="photos", numbers=[1, 2.5, None, True, {"deep": []}], rate=0.1)
    profile.save(tmp_path / "p.fmstats")
    assert_same_profiles(fmstats.load(str(tmp_path / "p.fmstats")), profile)


def test_bytes_are_the_content_of_a_file(file: Path) -> None:
    profile = load(file)
    assert profile.to_bytes() == file.read_bytes()
    assert_same_profiles(Profile.from_bytes(profile.to_bytes()), profile)


def test_bytes_that_cannot_be_written_or_read(file: Path) -> None:
    profile, content = load(file), file.read_bytes()
    with pytest.raises(FmstatsError, match=r"^cannot read a profile from bytes: .*cut short"):
        Profile.from_bytes(content[:-1])
    with pytest.raises(FmstatsError, match=r"^cannot read a profile from bytes: it is damaged"):
        Profile.from_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    profile.metadata["made"] = object()
    with pytest.raises(FmstatsError, match=r"^cannot write the profile: metadata\['made'\] is of"):
        profile.to_bytes()


def test_what_a_tracker_has_seen(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU6(), nn.Flatten(), nn.Linear(80, 4))
    with fmstats.track(model, zero_tol=0.5) as tracker:
        model(torch.randn(2, 3, 6, 6))
    tracker.stats().save(tmp_path / "p.fmstats")
    read = load(tmp_path / "p.fmstats")
    assert_same_profiles(read, tracker.stats())
    assert str(read) == str(tracker.stats())
    assert len(read.metadata["structure"]) == 64


@pytest.mark.parametrize("name", ["n" * length for length in range(1, 9)])
def test_numbers_begin_at_whole_words(tmp_path: Path, name: str) -> None:
    """As the safetensors format asks for."""
    save(profile_of({name: layer_of(torch.randn(3, 2))}), tmp_path / "p.fmstats")
    assert int.from_bytes((tmp_path / "p.fmstats").read_bytes()[:8], "little") % 8 == 0


def test_any_dim_can_be_that_of_the_channels(tmp_path: Path) -> None:
    """Of 64 at most, and each number of dims has one."""
    dims = tuple((number, number - 1) for number in (1, 2, 64))
    layer = layer_of(torch.randn(3, 2), shape=(2, 3, 1), channel_dim=0, other_dims=dims)
    save(profile_of({"a": layer}), tmp_path / "p.fmstats")
    assert load(tmp_path / "p.fmstats").info["a"].dims == {1: 0, 2: 1, 64: 63, 3: 0}


def test_an_empty_profile(tmp_path: Path) -> None:
    save(Profile({}, {}), tmp_path / "p.fmstats")
    assert_same_profiles(load(tmp_path / "p.fmstats"), Profile({}, {}))


def test_counts_beyond_2_to_the_53_and_all_bits_of_moments(tmp_path: Path) -> None:
    profile = some_profile()
    state = profile["a.relu"].state
    state["count"][0], state["zeros"][0] = 2**62 + 1, 2**61 + 1
    state["mean"][0], state["m2"][0] = math.nextafter(0.1, 1), 5e-324
    save(profile, tmp_path / "p.fmstats")
    assert_same_profiles(load(tmp_path / "p.fmstats"), profile)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON_VALUES, max_size=4), st.text(st.characters()))
def test_any_metadata_and_name(
    tmp_path_factory: pytest.TempPathFactory, metadata: dict[str, Any], name: str
) -> None:
    """NaN, infinities, lone surrogates (as in names of files) and huge integers among them."""
    path = tmp_path_factory.mktemp("any") / "p.fmstats"
    profile = Profile({name: layer_of(torch.randn(3, 2))}, metadata)
    save(profile, path)
    assert_same_profiles(load(path), profile)


def test_numbers_that_are_not_finite_come_back(tmp_path: Path) -> None:
    save(profile_of({}, a=[math.nan, math.inf, -math.inf]), tmp_path / "p.fmstats")
    assert repr(load(tmp_path / "p.fmstats").metadata["a"]) == "[nan, inf, -inf]"


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Path("x"), r"metadata\['a'\] is of type PosixPath; give a number, a text"),
        ([0, {"b": np.int64(1)}], r"metadata\['a'\]\[1\]\['b'\] is of type int64"),
        ({1: 2}, r"metadata\['a'\] has the key 1, no text"),
    ],
)
def test_metadata_that_json_has_not(file: Path, value: Any, message: str) -> None:
    before = file.read_bytes()
    with pytest.raises(FmstatsError, match=message):
        save(profile_of({}, a=value), file)
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]


def test_the_file_is_plain_safetensors(file: Path) -> None:
    tensors, document = open_file(file)
    profile = some_profile()
    assert {str(t.dtype) for t in tensors.values()} == {"int64", "float64"}
    assert tensors["m2"].tolist() == [
        value for stats in profile.values() for value in stats.state["m2"].tolist()
    ]
    assert [layer["name"] for layer in document["layers"]] == list(profile)
    assert document["schema"] == 3


def test_the_size_is_that_of_the_channels(tmp_path: Path) -> None:
    """Not of the data; and counts that are 0 everywhere take nothing."""
    sizes = []
    for channels, elements in ((1000, 2), (3000, 2), (3000, 200)):
        x = torch.randn(elements, channels).abs() + 1
        save(profile_of({"a": layer_of(x, shape=(2, 1))}), tmp_path / "p.fmstats")
        sizes.append((tmp_path / "p.fmstats").stat().st_size)
    assert sizes[1] - sizes[0] == pytest.approx(2000 * 8 * 5, abs=100)
    assert sizes[1] == sizes[2]
    assert sizes[0] < 1000 * 8 * 5 + 1500


def test_reading_needs_no_backend(file: Path) -> None:
    code = (
        "import sys; sys.modules['fmstats._native'] = None; sys.modules['triton'] = None\n"
        "import torch, pickle, fmstats\n"
        "def no(*a, **k): raise AssertionError('not to be used')\n"
        "torch.load = pickle.load = pickle.loads = no\n"
        f"print(len(fmstats.load({str(file)!r})))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "3\n"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(
    file: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    before = file.read_bytes()

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(FmstatsError, match=r"cannot write '.*p\.fmstats': .*No space left"):
        save(some_profile(1), file)
    assert file.read_bytes() == before
    assert os.listdir(file.parent) == [file.name]


def test_what_is_written_is_on_the_disk_before_it_is_in_its_place(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file's bytes, then its name, then the folder."""
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(handle: int) -> None:
        calls.append("folder" if os.path.isdir(f"/proc/self/fd/{handle}") else "file")
        fsync(handle)

    def noted_replace(*paths: Any) -> None:
        calls.append("replace")
        replace(*paths)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    save(some_profile(1), file)
    assert calls == ["file", "replace", "folder"]
    assert_same_profiles(load(file), some_profile(1))


def test_places_that_take_no_file(tmp_path: Path) -> None:
    with pytest.raises(FmstatsError, match=r"there is no folder '.*absent'"):
        save(some_profile(), tmp_path / "absent" / "p.fmstats")
    with pytest.raises(FmstatsError, match=r"it is a folder"):
        save(some_profile(), tmp_path)


def test_states_that_could_not_be_read_are_not_written(file: Path) -> None:
    broken = some_profile()
    broken["head"].state["count"][1] = -1
    with pytest.raises(FmstatsError, match=r"layer 'head': count of channel 1 is -1: is negative"):
        save(broken, file)
    assert_same_profiles(load(file), some_profile(samples=20))


def refused(path: Path, message: str) -> None:
    with pytest.raises(FmstatsError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"cannot read profile {str(path)!r}: ")


def test_files_that_are_none(tmp_path: Path) -> None:
    refused(tmp_path / "absent", "there is no such file")
    refused(tmp_path, "it is no file")
    os.mkfifo(tmp_path / "pipe")
    refused(tmp_path / "pipe", "it is no file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"it is no .fmstats profile, or cut short: 0 bytes do not hold its header$"),
        (b"\x02\0\0", r"cut short: 3 bytes do not hold its header$"),
        (b"\xff" * 8, r"cut short: 8 bytes do not hold its header$"),
        (b"\xff" * 8 + b"{}", r"it is no .fmstats profile, or cut short: 10 bytes"),
        (b'{"metadata": {}}', r"it is no .fmstats profile, but JSON: show, merge and others read"),
        (PICKLE, r"it is no .fmstats profile"),
        (b"\x02\0\0\0\0\0\0\0{}", r"no profile: fmstats has not written it$"),
        (b"\x02\0\0\0\0\0\0\0[]", r"its header is no JSON object$"),
        (b"\x02\0\0\0\0\0\0\0{\xff", r"it is no profile, or damaged: "),
        ((9999).to_bytes(8, "little") + b"[" * 9999, r"it is no profile, or damaged: "),
    ],
)
def test_bytes_that_are_no_profile(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "p.fmstats").write_bytes(content)
    refused(tmp_path / "p.fmstats", message)


def test_a_huge_header_is_not_read(tmp_path: Path) -> None:
    """Nor in a file that is as large, which costs no room on the disk."""
    with (tmp_path / "p.fmstats").open("wb") as file:
        file.write((2**40).to_bytes(8, "little"))
        file.truncate(2**40 + 8)
    refused(tmp_path / "p.fmstats", r"cut short: 1,099,511,627,784 bytes do not hold its")


@pytest.mark.parametrize("length", [9_000, 15_000, 19_000, 25_000])
def test_a_header_that_is_written_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    """One that comes near the largest is not written."""
    for module in ("reading", "writing"):
        monkeypatch.setattr(f"fmstats.storage.{module}.LARGEST_HEADER", 20_000)
    profile = profile_of({}, a="x" * length)
    if length < 10_000:
        save(profile, tmp_path / "p.fmstats")
        assert_same_profiles(load(tmp_path / "p.fmstats"), profile)
    else:
        with pytest.raises(FmstatsError, match=r"a header has at most 20,000$"):
            save(profile, tmp_path / "p.fmstats")


def test_every_truncation(file: Path) -> None:
    content = file.read_bytes()
    for length in range(len(content)):
        file.write_bytes(content[:length])
        refused(file, "cut short|damaged")
    file.write_bytes(content + b"\0")
    refused(file, "damaged")


def test_a_file_that_is_cut_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Larger than what is read ahead."""
    file, find = tmp_path / "p.fmstats", reading._find_tensors
    save(profile_of({"a": layer_of(torch.randn(3, 1 << 14))}), file)

    def cut(*args: Any) -> dict[str, Any]:
        os.truncate(file, 1 << 18)
        return find(*args)

    monkeypatch.setattr(reading, "_find_tensors", cut)
    refused(file, "it became shorter while it was read$")


def test_every_bit(file: Path) -> None:
    """A file of which one bit has flipped is refused: it never gives other numbers."""
    save(profile_of({"l": layer_of(torch.randn(5, 2) + 3)}, samples=5), file)
    content = file.read_bytes()
    with file.open("wb", buffering=0) as opened:
        for bit in range(8 * len(content)):
            flipped = bytearray(content)
            flipped[bit // 8] ^= 1 << bit % 8
            opened.seek(0)
            opened.write(flipped)
            with pytest.raises(FmstatsError, match="cannot read profile"):
                load(file)
    file.write_bytes(content)
    assert load(file).metadata["samples"] == 5


def test_two_files_of_which_each_half_is_good(file: Path) -> None:
    content = file.read_bytes()
    save(some_profile(3, samples=20), file)
    other = file.read_bytes()
    assert len(content) == len(other)
    half = len(content) // 2
    file.write_bytes(content[:half] + other[half:])
    refused(file, "it is damaged: what is in it does not fit its checksum$")


def test_a_checksum_is_never_left_out(file: Path) -> None:
    tensors, document = open_file(file)
    for texts in ({}, {"sha256": ""}, {"sha256": "0" * 63}):
        file.write_bytes(pack(tensors, {"fmstats": json.dumps(document), **texts}))
        refused(file, "it is damaged: it has no checksum$")
    file.write_bytes(pack(tensors, {"fmstats": json.dumps(document), "sha256": "0" * 64}))
    refused(file, "it is damaged: what is in it does not fit its checksum$")
    document["schema"] = 1
    file.write_bytes(pack(tensors, {"fmstats": json.dumps(document), "sha256": "0" * 64}))
    refused(file, "it is damaged: what is in it does not fit its checksum$")


def test_files_of_schema_1_have_no_checksum(file: Path) -> None:
    tensors, document = open_file(file)
    file.write_bytes(pack(tensors, {"fmstats": json.dumps({**document, "schema": 1})}))
    assert_same_profiles(load(file), some_profile(samples=20))


@given(st.text("0f", min_size=60, max_size=68))
def test_metadata_that_looks_like_a_checksum(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.mktemp("any") / "p.fmstats"
    profile = profile_of({"0" * 64: layer_of(torch.randn(3, 2))}, **{text: "0" * 64, "a": text})
    save(profile, path)
    assert_same_profiles(load(path), profile)
    again = path.read_bytes()
    save(load(path), path)
    assert path.read_bytes() == again


def edit(file: Path, *keys: Any, value: Any) -> None:
    """Set one value in the JSON of a file."""
    tensors, document = open_file(file)
    inside = document
    for key in keys[:-1]:
        inside = inside[key]
    inside[keys[-1]] = value
    close_file(file, tensors, document)


@pytest.mark.parametrize("schema", [6, 10**30])
def test_a_newer_schema(file: Path, schema: int) -> None:
    edit(file, "layers", value="as nobody knows them yet")
    edit(file, "schema", value=schema)
    refused(
        file, rf"written by a newer fmstats: its schema is {schema}, this one reads up to 5; up"
    )


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (("schema",), None, r"its schema version is None, not a number from 1"),
        (("schema",), True, r"its schema version is True"),
        (("schema",), 0, r"its schema version is 0"),
        (("metadata",), [], r"its metadata is no JSON object"),
        (("layers",), {}, r"its layers are no list"),
        (("layers", 1), "head", r"layer 1 has no name"),
        (("layers", 1, "name"), 5, r"layer 1 has no name"),
        (("layers", 1, "name"), "b.conv", r"there are two layers 'b.conv'"),
        (("layers", 1, "name"), "head", r"'head': it cannot be a row of layer 'a.relu', call None"),
        (("layers", 1, "layer"), 5, r"'a.relu': 'layer' and 'call' must be a text and a count"),
        (("layers", 1, "call"), -1, r"'a.relu': 'layer' and 'call' must be a text and a count"),
        (("layers", 1, "call"), 3, r"'a.relu': it cannot be a row of layer 'a.relu', call 3"),
        (("layers", 1, "other_dims"), 3, r"'other_dims' must be a list, not 3"),
        (("layers", 1, "other_dims"), [[4]], r"'other_dims' must be pairs of numbers, not \[4\]"),
        (("layers", 1, "other_dims"), [[4, 4]], r"'other_dims' has no sense: \[\[4, 4\]\]"),
        (("layers", 1, "other_dims"), [[2, 1]], r"'other_dims' has no sense: \[\[2, 1\]\]"),
        (("layers", 1, "other_dims"), [[4, 1]] * 2, r"'other_dims' has no sense"),
        (("layers", 1, "other_dims"), [[99, 1]], r"'other_dims' has no sense"),
        (("layers", 0, "type"), None, r"layer 'b.conv': 'type' must be a text, not None"),
        (("layers", 0, "dtype"), 3, r"layer 'b.conv': 'dtype' must be a text, not 3"),
        (("layers", 0, "shape"), [1, -5], r"'shape' must be a list of sizes, not \[1, -5\]"),
        (("layers", 0, "calls"), -1, r"'calls' must be a count, not -1"),
        (("layers", 0, "calls"), math.nan, r"'calls' must be a count, not nan"),
        (("layers", 0, "calls"), 2**63, r"'calls' must be a count, not 9223372036854775808"),
        (("layers", 0, "calls"), True, r"'calls' must be a count, not True"),
        (("layers", 0, "channels"), -5, r"'channels' must be a count, not -5"),
        (("layers", 0, "channels"), 6, r"tensor '\w+' is not [IF]64 of 11 channels"),
        (("layers", 0, "channels"), 2**62, r"tensor '\w+' is not [IF]64"),
        (("layers", 0, "channel_dim"), 2, r"'channel_dim' must be a dim of \[20, 5\], not 2"),
        (("layers", 0, "channel_dim"), -1, r"'channel_dim' must be a dim of \[20, 5\], not -1"),
        (("layers", 0, "thresholds"), [0.0], r"'thresholds' must be \[zero_tol, low, high\]"),
        (("layers", 0, "thresholds"), [-1, None, None], r"zero_tol must be finite and not negat"),
        (("layers", 0, "thresholds"), [math.nan, None, None], r"zero_tol must be finite"),
        (("layers", 0, "thresholds"), [None, None, None], r"zero_tol must be finite"),
        (("layers", 0, "thresholds"), [0, "x", None], r"'thresholds' must be numbers, not 'x'"),
        (("layers", 0, "thresholds"), [0, None, math.inf], r"saturation bound high=inf"),
        (("layers", 0, "thresholds"), [0, 10**400, None], r"layer 'b.conv': 'thresholds': "),
        (("layers", 1, "thresholds"), [0.25, None, 1.5], r"sat_low of channel \d is \d+: .*bound"),
    ],
)
def test_wrong_json(file: Path, keys: tuple[Any, ...], value: Any, message: str) -> None:
    edit(file, *keys, value=value)
    refused(file, message)


@pytest.mark.parametrize("text", ["", "nonsense", "[" * 100_000, "[]", '{"schema": ' + "9" * 5000])
def test_a_document_that_is_none(file: Path, text: str) -> None:
    file.write_bytes(pack(open_file(file)[0], {"fmstats": text}))
    refused(file, "it is no profile, or damaged: ")


# The first five channels are those of b.conv: 0 has NaN and infinities, 1 has nothing finite.
@pytest.mark.parametrize(
    ("field", "channel", "value", "message"),
    [
        *[(f, 4, -1, rf"layer 'b.conv': {f} of channel 4 is -1: is negative") for f in FIELDS[:7]],
        ("count", 0, 2, r"nan of channel 0 is 1|neg_inf of channel 0 is 1: .*count leaves"),
        ("nan", 4, 21, r"layer 'b.conv': nan of channel 4 is 21: is more than the count"),
        ("nan", 4, 2**63 - 1, r"is more than the count"),
        ("nan", 0, 19, r"pos_inf of channel 0 is 1: is more than the count leaves|neg_inf"),
        ("zeros", 6, 21, r"layer 'a.relu': zeros of channel 1 is 21: is more than the count"),
        ("zeros", 0, 18, r"zeros of channel 0 is 18: is more than the finite elements"),
        ("sat_high", 6, 21, r"sat_high of channel 1 is 21: is more than the count"),
        ("sat_high", 2, 1, r"layer 'b.conv': sat_high of channel 2 is 1: is counted without"),
        ("mean", 9, math.nan, r"layer 'head': mean of channel 1 is nan: is not finite"),
        ("mean", 9, math.inf, r"mean of channel 1 is inf: is not finite"),
        ("mean", 9, 100.0, r"mean of channel 1 is 100.0: lies outside of minimum and maximum"),
        ("mean", 9, -100.0, r"lies outside of minimum and maximum"),
        ("m2", 9, math.nan, r"m2 of channel 1 is nan: is not finite"),
        ("m2", 9, math.inf, r"m2 of channel 1 is inf: is not finite"),
        ("m2", 9, -1e-9, r"m2 of channel 1 is -1e-09: is negative"),
        ("min", 9, math.nan, r"min of channel 1 is nan: is not finite"),
        ("max", 9, math.inf, r"max of channel 1 is inf: is not finite"),
        ("min", 9, 100.0, r"min of channel 1 is 100.0: is more than the maximum"),
        ("mean", 1, 1.0, r"mean of channel 1 is 1.0: is not 0.0 with nothing finite"),
        ("m2", 1, math.nan, r"m2 of channel 1 is nan: is not 0.0 with nothing finite"),
        ("min", 1, 0.0, r"min of channel 1 is 0.0: is not inf with nothing finite"),
        ("max", 1, 0.0, r"max of channel 1 is 0.0: is not -inf with nothing finite"),
    ],
)
def test_numbers_that_no_data_gives(
    file: Path, field: str, channel: int, value: Any, message: str
) -> None:
    tensors, document = open_file(file)
    missing = {f: np.zeros(10, np.int64) for f in FIELDS if f not in tensors}
    tensors = {**missing, **tensors}
    tensors[field] = tensors[field].copy()
    tensors[field][channel] = value
    close_file(file, tensors, document)
    refused(file, message)


def test_tensors_of_another_kind(file: Path) -> None:
    tensors, document = open_file(file)
    for field, wrong in (
        ("count", tensors["count"].astype(np.float64)),
        ("mean", tensors["mean"].astype(np.float32)),
        ("mean", tensors["mean"][:-1]),
        ("mean", tensors["mean"].reshape(2, 5)),
        ("mean", tensors["mean"].reshape(1, 10)),
    ):
        close_file(file, {**tensors, field: wrong}, document)
        refused(file, rf"tensor '{field}' is not [IF]64 of 10 channels")
    close_file(file, {f: t for f, t in tensors.items() if f != "m2"}, document)
    refused(file, "its tensors are not the fields")
    close_file(file, {**tensors, "p99": tensors["mean"]}, document)
    refused(file, "its tensors are not the fields")


@pytest.mark.parametrize(
    ("offsets", "message"),
    [
        ([0, 80], r"is not the \d+ tensors that its header"),  # where another tensor is
        ([-80, 0], r"is not the \d+ tensors"),
        ([80, 0], r"tensor 'max' is not 80 bytes long"),
        ([0, 10**30], r"tensor 'max' is not 80 bytes long"),
        ([10**30, 10**30 + 80], r"is not the \d+ tensors"),
        ([0.0, 80.0], r"tensor 'max' has no place in the file"),
        ([False, 80], r"tensor 'max' has no place"),
        ([0], r"tensor 'max' has no place"),
        ("0-80", r"tensor 'max' has no place"),
    ],
)
def test_hostile_offsets(file: Path, offsets: Any, message: str) -> None:
    content = file.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    header["max"]["data_offsets"] = offsets
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + length :])
    refused(file, message)


def test_moments_that_have_overflowed_are_no_damage(tmp_path: Path) -> None:
    """Squares of float64 data need not fit into float64."""
    profile = profile_of({"a": layer_of(torch.tensor([[1e300], [-1e300]], dtype=torch.float64))})
    assert profile["a"].state["m2"].tolist() == [math.inf]
    save(profile, tmp_path / "p.fmstats")
    assert_same_profiles(load(tmp_path / "p.fmstats"), profile)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("mean", math.nan, "mean of channel 0 is nan: is not finite"),
        ("mean", -math.inf, "mean of channel 0 is -inf: is not finite"),
        ("mean", 1.1e300, r"mean of channel 0 is 1.1e\+300: lies outside of minimum and maximum"),
        ("mean", -1.1e300, "lies outside of minimum and maximum"),
        ("m2", math.nan, "m2 of channel 0 is nan: is not finite"),
        ("m2", -math.inf, "m2 of channel 0 is -inf: is not finite"),
    ],
)
def test_the_widest_data_give_no_other_moments(
    tmp_path: Path, field: str, value: float, message: str
) -> None:
    """Only what `m2` adds up may be beyond float64."""
    profile = profile_of({"a": layer_of(torch.tensor([[1e300], [-1e300]], dtype=torch.float64))})
    profile["a"].state[field][0] = value
    with pytest.raises(FmstatsError, match=message):
        save(profile, tmp_path / "p.fmstats")


def test_a_sum_of_squares_overflows_only_where_values_are_large(tmp_path: Path) -> None:
    for largest in (1e140, 1.01e140):
        x = torch.tensor([[largest], [-largest]], dtype=torch.float64)
        profile = profile_of({"a": layer_of(x)})
        save(profile, tmp_path / "p.fmstats")
        profile["a"].state["m2"][0] = math.inf
        if largest > 1e140:
            save(profile, tmp_path / "p.fmstats")
        else:
            with pytest.raises(FmstatsError, match="m2 of channel 0 is inf: is not finite"):
                save(profile, tmp_path / "p.fmstats")


@pytest.mark.parametrize(("low", "high"), [(1.0, 3.0), (-3.0, -1.0), (-1.0, 1.0)])
def test_rounding_may_put_a_mean_a_little_outside_of_its_range(
    tmp_path: Path, low: float, high: float
) -> None:
    """By a thousandth of the range and a millionth of the largest magnitude."""
    slack = 1e-3 * (high - low) + 1e-6 * max(abs(low), abs(high))
    profile = profile_of({"a": layer_of(torch.tensor([[low], [high]], dtype=torch.float64))})
    for bound, away in ((high, 1), (low, -1)):
        profile["a"].state["mean"][0] = bound + away * 0.999 * slack
        save(profile, tmp_path / "p.fmstats")
        profile["a"].state["mean"][0] = bound + away * 1.001 * slack
        with pytest.raises(FmstatsError, match="lies outside of minimum and maximum"):
            save(profile, tmp_path / "p.fmstats")


@pytest.mark.parametrize("large", [1.7976931348623157e308, 1e300, 1e140, 1e-300])
def test_means_of_the_largest_values_are_written(tmp_path: Path, large: float) -> None:
    x = torch.tensor([[1, 1, 0.5], [-1, 1, 1], [1, 1, -1]], dtype=torch.float64) * large
    profile = profile_of({"a": layer_of(x)})
    merged = profile.merge(profile, profile_of({"a": layer_of(-x)}))
    for each in (profile, merged):
        save(each, tmp_path / "p.fmstats")
        assert_same_profiles(load(tmp_path / "p.fmstats"), each)


def test_loaded_states_stand_alone(file: Path) -> None:
    """One that is sent to another process takes the room of one layer."""
    stats = load(file)["head"]
    assert stats.state.words.untyped_storage().nbytes() == 8 * len(FIELDS) * 2
    stats.state.merge_(State.identity(2))


def test_counts_are_in_every_file(tmp_path: Path) -> None:
    """Those of elements even where nothing was seen; a file without them is none."""
    path = tmp_path / "p.fmstats"
    state = State.identity(3)
    layer = replace(layer_of(torch.ones(2, 3)), stats=ChannelStats(state, Thresholds()), calls=0)
    save(Profile({"unseen": layer}, {}), path)
    tensors, document = open_file(path)
    assert set(tensors) == {"count", "mean", "m2", "min", "max"}
    assert_same_profiles(load(path), Profile({"unseen": layer}, {}))
    for field in tensors:
        close_file(path, {f: t for f, t in tensors.items() if f != field}, document)
        refused(path, "its tensors are not the fields count, nan")


@pytest.mark.parametrize(("low", "high"), [(None, 1.5), (0.0, None), (None, None)])
def test_saturation_needs_its_own_bound(file: Path, low: float | None, high: float | None) -> None:
    edit(file, "layers", 1, "thresholds", value=[0.25, low, high])
    field = "sat_low" if low is None else "sat_high"
    refused(file, rf"layer 'a.relu': {field} of channel \d is \d+: is counted without a bound")
