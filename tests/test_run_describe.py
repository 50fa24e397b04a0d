"""How data and options are described in words, and the differences of two identities."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from fmstats.runs.identity import (
    describe_data,
    describe_options,
    find_differences,
    fingerprint_samples,
)
from fmstats.sources.data import DataSource
from fmstats.sources.stored import Stored

ROWS = torch.arange(12.0).view(12, 1)


def stored(rows: torch.Tensor | None = ROWS, files: list[Path] | None = None) -> Stored:
    def read(spans: object, _: object) -> Iterator[tuple[range, torch.Tensor | None]]:
        for span in spans:
            yield span, None if rows is None else rows[span.start : span.stop]

    return Stored(12, 4, read, {"kind": "rows"}, files)


def test_data() -> None:
    assert describe_data([1, 2]) == {"data": "list", "batches of data": 2}
    assert describe_data(iter([1])) == {"data": "list_iterator", "batches of data": None}
    assert describe_data(DataSource("x", 5, list)) == {"data": "x"}
    source = DataSource("x", 12, list, stored=stored())
    assert describe_data(source) == {"data": "x", "batch_size": 4, "kind": "rows"}


def test_stored_samples_are_told_by_their_values_and_places() -> None:
    spans = [range(0, 4), range(4, 8)]
    whole = fingerprint_samples(stored(), spans)
    assert whole == fingerprint_samples(stored(ROWS.clone()), list(spans))
    assert whole["parts"] == {}
    changed = ROWS.clone()
    changed[5] += 1
    others = [
        *(fingerprint_samples(stored(changed), spans), fingerprint_samples(stored(), spans[:1])),
        *(fingerprint_samples(stored(), spans[::-1]), fingerprint_samples(stored(None), spans)),
        *(fingerprint_samples(stored(), []), fingerprint_samples(stored(ROWS[:0]), spans)),
    ]
    assert len({each["digest"] for each in [whole, *others]}) == len(others) + 1
    behind = ROWS.clone()
    behind[8:] = 0  # of no span
    assert fingerprint_samples(stored(behind), spans) == whole


def test_files_are_told_by_their_content(tmp_path: Path) -> None:
    paths = [tmp_path / f"{n}.bin" for n in range(12)]
    for n, path in enumerate(paths):
        path.write_bytes(bytes([n]) * (1 << 20) + b"end")
    spans = [range(0, 4), range(8, 10)]

    def digest() -> str:
        return fingerprint_samples(stored(None, paths), spans)["digest"]

    whole = digest()
    paths[5].write_bytes(b"of no span")
    assert digest() == whole
    paths[9].write_bytes(bytes([9]) * (1 << 20) + b"enD")
    changed = digest()
    assert changed != whole
    paths[9].unlink()
    assert digest() not in (whole, changed)
    paths[9].mkdir()
    gone = digest()
    assert gone not in (whole, changed)
    paths[9].rmdir()
    paths[9].write_bytes(bytes([9]) * (1 << 20) + b"end")
    assert digest() == whole


def test_differences() -> None:
    there = {"a": 1, "b": "x", "weights": {"digest": "1", "parts": {"w": "1", "v": "2", "u": "3"}}}
    assert find_differences(there, dict(there)) == []
    assert find_differences(there, {**there, "a": 2}) == ["a: 1 in the checkpoint, 2 now"]
    assert find_differences({}, {"b": "x"}) == ["b: None in the checkpoint, 'x' now"]
    assert find_differences({"b": "x"}, {}) == ["b: 'x' in the checkpoint, None now"]
    for parts, text in (
        ({"w": "1", "v": "9", "u": "3"}, "the values of v differ"),
        ({"w": "1", "u": "3"}, "the values of v differ"),
        ({"w": "0", "v": "0", "u": "0"}, "the values of w, v, u differ"),
        ({"w": "1", "v": "2", "u": "3", "t": "4"}, "the values of t differ"),
        ({}, "the values of w, v, u differ"),
        (dict(zip("abcde", "12345", strict=True)), "the values of w, v, u and 5 more differ"),
    ):
        here = {**there, "weights": {"digest": "2", "parts": parts}}
        assert find_differences(there, here) == [text]
    many = [{"digest": digest, "parts": {}} for digest in "12"]
    assert find_differences({"weights": many[0]}, {"weights": many[1]}) == [
        "the values of some of them differ"
    ]
    assert find_differences({"code": many[0]}, {"code": many[1]}) == [
        "the code of some modules differ"
    ]
    assert find_differences({"samples": many[0]}, {"samples": many[1]}) == [
        "the content of the data differ"
    ]
    assert find_differences({"code": 3}, {"code": 4}) == ["code: 3 in the checkpoint, 4 now"]


class Picks:
    def __call__(self, name: str) -> bool:
        return True


@pytest.mark.parametrize(
    ("value", "told"),
    [
        *((None, None), (3, 3), (0.5, 0.5), (True, True), ("x", "x"), (b"x", "b'x'")),
        (re.compile("a.b"), "re.compile('a.b', 32)"),
        (["b", "a"], "b, a"),
        (("b", 2), "b, 2"),
        ({"b", "a"}, "a, b"),
        (frozenset({"b", "a"}), "a, b"),
        ({"b": [1, None], nn.ReLU: (2,)}, "{b: 1, None, torch.nn.modules.activation.ReLU: 2}"),
        (torch.device("cuda:1"), "cuda"),
        (torch.float16, "torch.float16"),
        (nn.ReLU, "torch.nn.modules.activation.ReLU"),
        (len, "builtins.len"),
    ],
)
def test_options_are_told_in_words(value: object, told: object) -> None:
    assert describe_options({"o": value}) == {"o": told}


def test_an_object_among_options_is_told_by_its_class_and_the_code_of_that() -> None:
    told = str(describe_options({"o": Picks()})["o"])
    assert re.fullmatch(r"test_run_describe\.Picks \([0-9a-f]{16}\)", told)


def test_a_function_is_told_by_its_code() -> None:
    one, same, other = (
        describe_options({"o": function})["o"]
        for function in (lambda name: name == "a", lambda name: name == "a", lambda name: name)
    )
    assert one == same
    assert one != other
    assert re.fullmatch(r"test_a_function_.*<lambda> \([0-9a-f]{16}\)", one)
