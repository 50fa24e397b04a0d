"""Values have the fingerprint of their content, whatever holds it, and no two share one."""

from __future__ import annotations

import enum
import functools
import gc
import random
import re
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from pathlib import PurePath

import numpy as np
import pytest
import torch
from torch import nn

import fmstats
from fmstats.runs import fingerprints
from fmstats.runs.code import fingerprint_code
from fmstats.runs.fingerprints import Fingerprints, join, settings_of


class Colour(enum.Enum):
    RED, BLUE = 1, 2


class Holder:
    def __init__(self, value: object) -> None:
        self.value = value

    def method(self) -> object:
        return self.value


class Slotted:
    __slots__ = ("left", "right")

    def __init__(self, left: object, right: object) -> None:
        self.left, self.right = left, right


class OneSlot(Slotted):
    __slots__ = "more"

    def __init__(self, more: object) -> None:
        super().__init__(1, 2)
        self.more = more


class Pickled:
    """Like an object of a compiled type: it has no attributes but what `pickle` stores."""

    __slots__ = ()
    stored: tuple[object, list[object], dict[str, object]] = (None, [], {})

    def __reduce_ex__(self, protocol: object) -> tuple[object, ...]:
        state, items, entries = self.stored
        return (Pickled, (), state, (x for x in items), (x for x in entries.items()))


def pickled(state: object, items: list[object], entries: dict[str, object]) -> Pickled:
    return type("Pickled", (Pickled,), {"__slots__": (), "stored": (state, items, entries)})()


def of(value: object) -> bytes:
    """The fingerprint of a value that has one."""
    prints = Fingerprints(fingerprint_code)
    found = prints.of(value, "x")
    assert prints.unknown == []
    assert len(found) == 16
    assert prints.of(value, "elsewhere") == found
    return found


def keyed(value: object) -> OrderedDict[str, object]:
    made = OrderedDict(a=1)
    made.note = value  # type: ignore[attr-defined]
    return made


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def objects(*values: object) -> np.ndarray:
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made


# By kind, what makes a value anew each time; no two of them are equal.
VALUES: dict[str, list[Callable[[], object]]] = {
    "plain": [lambda: None, lambda: True, lambda: 1, lambda: 1.0, lambda: "1", lambda: b"1"],
    "bytes": [lambda: b"'", lambda: 'b"\'"', lambda: bytearray(b"1"), lambda: "\udc80"],
    "ranges": [lambda: range(3), lambda: range(4), lambda: slice(3), lambda: slice(1, 3)],
    "lists": [lambda: [1, 2], lambda: [2, 1], lambda: (1, 2), lambda: [[1], 2], lambda: [1, [2]]],
    "deques": [lambda: deque([1, 2]), lambda: deque([2, 1]), lambda: deque()],
    "mappings": [lambda: {"a": 1}, lambda: {"a": 2}, lambda: {"b": 1}, lambda: {}],
    "with attributes": [lambda: keyed(1), lambda: keyed(2), lambda: OrderedDict(a=1)],
    "sets": [lambda: {1, 2}, lambda: {1, 3}, lambda: frozenset({1, 2}), set],
    "tensors": [lambda: torch.zeros(2), lambda: torch.zeros(3), lambda: torch.ones(2)],
    "arrays": [
        *(lambda: np.zeros(2), lambda: np.zeros((2, 1)), lambda: np.zeros(2, np.int64)),
        *(lambda: np.float64(0), lambda: np.float64(1), lambda: np.arange(6.0).reshape(2, 3).T),
        *(lambda: objects(1, [2]), lambda: objects(1, [3])),
    ],
    "written": [
        *(lambda: re.compile("a"), lambda: re.compile("b"), lambda: PurePath("a")),
        *(lambda: Colour.RED, lambda: Colour.BLUE, lambda: ..., lambda: torch.float16),
        *(lambda: torch.device("cpu"), lambda: torch.strided, lambda: np.dtype("f4")),
    ],
    "objects": [lambda: Holder(1), lambda: Holder(2), lambda: Holder([1])],
    "slots": [lambda: Slotted(1, 2), lambda: Slotted(2, 1), lambda: OneSlot(1), lambda: OneSlot(2)],
    "pickled": [
        *(lambda: pickled(1, [2], {"a": 3}), lambda: pickled(2, [2], {"a": 3})),
        *(lambda: pickled(1, [1], {"a": 3}), lambda: pickled(1, [2], {"a": 4})),
        *(lambda: pickled(1, [2], {"b": 3}), lambda: pickled(None, [], {})),
    ],
    "functions": [lambda: lambda x: x, lambda: lambda x: x + 1, lambda: len, lambda: torch.relu],
    "methods": [lambda: Holder(1).method, lambda: Holder(2).method, lambda: [].append],
    "partials": [
        *(lambda: functools.partial(max, 1), lambda: functools.partial(min, 1)),
        *(lambda: functools.partial(max, 2), lambda: functools.partial(max, key=1)),
    ],
    "wrapped": [
        *(lambda: staticmethod(len), lambda: classmethod(len), lambda: staticmethod(abs)),
        *(lambda: property(len), lambda: property(abs), lambda: property(len, abs)),
        *(lambda: functools.cached_property(len), lambda: functools.cached_property(abs)),
    ],
    "random": [
        *(lambda: generator(1), lambda: generator(2)),
        *(lambda: random.Random(1), lambda: random.Random(2)),
        *(lambda: np.random.default_rng(1), lambda: np.random.default_rng(2)),
    ],
    "modules": [lambda: nn.ReLU(), lambda: nn.ReLU(True), lambda: nn.Sequential(nn.ReLU())],
}


@pytest.mark.parametrize("kind", VALUES)
def test_values_differ_by_their_content_alone(kind: str) -> None:
    made = [[of(make()) for make in VALUES[kind]] for _ in range(2)]
    assert made[0] == made[1]
    assert len(set(made[0])) == len(made[0])


def test_what_is_of_the_process_alone_makes_no_difference() -> None:
    one, other = (
        [threading.Lock(), threading.local(), weakref.ref(held), weakref.WeakKeyDictionary()]
        for held in (Holder(1), Holder(2))
    )
    assert of(one) == of(other)


def test_a_value_within_itself_has_a_fingerprint() -> None:
    def loop(value: object) -> list[object]:
        made = [value]
        made.append(made)
        return made

    assert of(loop(1)) == of(loop(1))
    assert of(loop(1)) != of(loop(2))


def test_what_has_none_is_told_by_its_place_once() -> None:
    prints = Fingerprints(fingerprint_code)
    streams: list[Iterator[int]] = [(x for x in range(3)) for _ in range(2)]
    found = [prints.of({"s": stream}, "x") for stream in streams]
    assert found[0] == found[1]
    assert prints.unknown == ["x['s'] (builtins.generator)"]
    prints.of(streams[:1], "y")  # known by now, and told
    assert prints.unknown == ["x['s'] (builtins.generator)"]


def test_only_so_much_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "_NAMED", 3)
    prints = Fingerprints(fingerprint_code)
    for number in range(5):
        prints.miss(str(number), "stream")
    assert prints.unknown == ["0 (stream)", "1 (stream)", "2 (stream)"]


def test_only_so_many_values_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fingerprints, "_MOST", 3)
    prints, values = Fingerprints(fingerprint_code), [[n] for n in range(5)]
    found = [prints.of(value, str(n)) for n, value in enumerate(values)]
    assert len(set(found[:3])) == 3
    assert found[3] == found[4]
    assert prints.unknown == ["3 (more than 3 values)", "4 (more than 3 values)"]
    assert [prints.of(value, "again") for value in values[:3]] == found[:3]


def test_what_was_made_for_objects_is_made_once_while_they_live() -> None:
    prints, made = Fingerprints(fingerprint_code), []

    def make(key: tuple[Holder, ...], to: Fingerprints) -> bytes:
        made.append([holder.value for holder in key])
        assert to is prints
        assert to.once(key, make) != b"made"  # within itself
        return b"made"

    one, two = Holder(1), Holder(2)
    for key in ((one, two), (one, two), (two, one), (one,)):
        assert prints.once(key, make) == b"made"
    assert made == [[1, 2], [2, 1], [1]]
    kept = weakref.ref(one)
    del one, key
    gc.collect()
    assert kept() is not None  # or another object could be taken for it


def test_parts_are_joined_by_their_borders() -> None:
    parts = [(), ("",), ("", ""), ("ab",), ("a", "b"), ("b", "a"), ("ab", "")]
    assert len({join(*each) for each in parts}) == len(parts)
    assert join("a", b"b") == join(b"a", "b")


def test_settings_are_what_a_module_has_of_its_own() -> None:
    module = nn.Dropout(0.25).train()
    assert settings_of(module) == {"p": 0.25, "inplace": False}
    module.note = 1
    handles = [
        *(module.register_forward_pre_hook(print), module.register_forward_hook(abs)),
        *(module.register_full_backward_hook(len), module.register_full_backward_pre_hook(max)),
    ]
    assert settings_of(module) == {
        **{"p": 0.25, "inplace": False, "note": 1, "hooks": [print, abs, len, max]}
    }
    for handle in handles:
        handle.remove()
    assert settings_of(module) == {"p": 0.25, "inplace": False, "note": 1}


def test_extra_state_is_a_setting_and_hooks_of_a_tracker_are_none() -> None:
    class Extra(nn.ReLU):
        def get_extra_state(self) -> object:
            return {"level": 3}

    assert settings_of(Extra()) == {"inplace": False, "extra state": {"level": 3}}
    module = nn.ReLU()
    for of in ("output", "input", "grad_output"):
        with fmstats.track(module, of=of):
            assert settings_of(module) == {"inplace": False}


def test_modules_that_are_no_layers_are_looked_into() -> None:
    def deep(value: float, name: str = "a", buffer: float = 1.0) -> nn.Module:
        part = nn.Linear(1, 1, bias=False)
        nn.init.constant_(part.weight, value)
        part.register_buffer("b", torch.tensor(buffer), persistent=False)
        return nn.Sequential(OrderedDict({name: nn.Sequential(part)}))

    found = [of(deep(1)), of(deep(2)), of(deep(1, "b")), of(deep(1, buffer=2.0))]
    assert found[0] == of(deep(1))
    assert len(set(found)) == len(found)
