"""Names that a look may fill, how they are changed, and how all is put back."""

from __future__ import annotations

import collections
import functools
import logging
import types
import weakref
from typing import Any

import pytest
import torch
from torch import nn

from fmstats.models.copies.namespaces import (
    Attributes,
    Globals,
    Hooks,
    Shared,
    is_code,
    is_data,
    is_special,
)
from fmstats.models.copies.objects import Copier
from fmstats.models.copies.reach import Reach
from fmstats.models.copies.surroundings import kept
from fmstats.models.copies.tensors import RealTensors


class Mine:
    """A class of the user's."""

    def method(self) -> None: ...


class Loading(dict[str, int]):
    """A mapping of the user's, which may load what it holds."""


DATA: tuple[object, ...] = (
    *({}, [], set(), (), frozenset(), torch.ones(1), nn.ReLU(), torch.Generator(), Mine()),
    *(collections.deque(), collections.OrderedDict(), weakref.WeakSet(), Mine().method),
    *(functools.partial(print), functools.lru_cache(lambda: 1)),
)
NO_DATA: tuple[object, ...] = (
    *(1, 2.5, "text", None, True, b"", range(3), Mine, torch, len, is_data, torch.float32),
    *(Loading(), logging.getLogger(), functools.lru_cache(logging.getLogger)),
)


def test_what_a_look_may_fill() -> None:
    assert [each for each in DATA if not is_data(each)] == []
    assert [each for each in NO_DATA if is_data(each)] == []
    assert [is_code(each) for each in (Mine, torch, is_data, Mine(), len)] == [True] * 3 + [
        False
    ] * 2
    names = ("__init__", "__x", "x__", "x", 3)
    assert [is_special(each) for each in names] == [True] + [False] * 4


def test_globals_count_where_code_mentions_them() -> None:
    names: dict[str, Any] = {"cache": {}, "other": {}, "number": 3, "__all__": []}
    space = Globals(names)
    space.mentioned |= {"cache", "number", "__all__"}
    assert [space.has(name) for name in names] == [True, False, True, True]
    assert [space.takes(*item) for item in names.items()] == [True, False, False, False]
    space.write("cache", 1)
    space.erase("other")
    assert names == space.read() == {"cache": 1, "number": 3, "__all__": []}


def test_hooks_all_count() -> None:
    assert Hooks({}).has(3)
    assert Hooks({}).takes(3, print)


def test_attributes_of_classes() -> None:
    class Strict(type):
        def __setattr__(cls, name: str, value: object) -> None:
            raise AssertionError(name)

        __delattr__ = None  # type: ignore[assignment]

    kind = Strict("Kind", (), {"table": {}, "unseen": {}, "__call__": None, "__repr__": None})
    space = Attributes(kind, {"table", "__repr__"})
    names = ("table", "unseen", "__call__", "__repr__", "__init__")
    assert [space.has(name) for name in names] == [True, False, True, True, False]
    assert not Attributes(kind, set()).has("__repr__")
    space.made = True
    assert space.has("__init__")
    assert [space.takes(n, {}) for n in names] == [True, False, False, False, False]
    assert not space.takes("table", 3)
    space.write("table", 3)
    assert vars(kind)["table"] == space.read()["table"] == 3
    space.erase("table")
    assert "table" not in space.read()


def test_attributes_of_what_is_shared() -> None:
    class Owner:
        __slots__ = ("__dict__", "slot")

        def __setattr__(self, name: str, value: object) -> None:
            raise AssertionError(name)

    owner = Owner()
    space = Shared(owner)
    vars(owner)["plain"] = 1
    space.write("slot", 2)
    space.write("plain", 3)
    assert space.read() == {"slot": 2, "plain": 3}
    assert space.has("anything")
    values = ({}, 3, print, Mine, torch)
    assert [space.takes("plain", value) for value in values] == [True, True, True, False, False]
    space.erase("plain")
    space.erase("slot")
    assert space.read() == {}


CACHE: list[int] = []
SEEN: weakref.WeakSet[nn.Module] = weakref.WeakSet()


class Keeping(nn.Module):
    """Fills globals, an attribute of its class, a default."""

    table: dict[str, int] = {}  # noqa: RUF012

    def forward(self, x: object, seen: list[int] = []) -> tuple[int, ...]:  # noqa: B006
        CACHE.append(1)
        SEEN.add(self)
        self.table["a"] = 1
        seen.append(1)
        globals()["CACHE_LENGTH"] = None
        return len(CACHE), len(SEEN), len(self.table), len(seen)


def grown() -> tuple[int, ...]:
    defaults: Any = Keeping.forward.__defaults__
    return len(CACHE), len(SEEN), len(Keeping.table), len(defaults[0])


@pytest.mark.parametrize("ends", [True, False])
def test_for_the_time_of_a_look_code_meets_copies(ends: bool) -> None:
    globals()["CACHE_LENGTH"] = 0
    held = CACHE, Keeping.table, Keeping.forward.__defaults__
    copier = Copier(RealTensors())
    model = copier.copy(Keeping())
    reach = Reach(copier)
    reach.functions[0] = Keeping.forward  # type: ignore[assignment]
    for times in (1, 2):  # the copies stay those of the look
        try:
            with kept(reach):
                assert CACHE is not held[0]
                assert Keeping.table is not held[1]
                assert model(None) == (times, 1, 1, times)
                if not ends:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            assert not ends
        assert grown() == (0, 0, 0, 0)
        assert CACHE is held[0]
        assert Keeping.table is held[1]
        assert Keeping.forward.__defaults__ is held[2]


def test_new_names_are_erased_but_those_of_code() -> None:
    space = types.SimpleNamespace(a=[1], b=2)

    class Only(Reach):
        def follow(self) -> None: ...

    reach = Only(Copier(RealTensors()))
    reach.spaces = {0: Shared(space)}
    a = space.a
    with kept(reach):
        space.a.append(2)
        space.b, space.new, space.code = 3, [], print_nothing
        del space.a
    assert vars(space) == {"a": [1], "b": 2, "code": print_nothing}
    assert space.a is a


def print_nothing() -> None: ...


def test_variables_of_closures_are_put_back() -> None:
    table: list[int] = []

    def fill() -> object:
        table.append(1)
        return later

    copier = Copier(RealTensors())
    reach = Reach(copier)
    cells = dict(zip(fill.__code__.co_freevars, fill.__closure__ or (), strict=True))
    reach.cells = dict(enumerate(cells.values()))
    before = table
    with kept(reach):
        cells["later"].cell_contents = 3
        assert fill() == 3
        assert table == [1]
    assert table is before
    assert before == []
    with pytest.raises(ValueError, match="empty"):
        cells["later"].cell_contents  # noqa: B018
    later = 4
    assert fill() == later
