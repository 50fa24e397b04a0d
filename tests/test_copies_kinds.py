"""Copies of objects: equal, apart, and tied to one another as the originals are."""

from __future__ import annotations

import collections
import enum
import functools
import logging
import math
import operator
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fmstats.models.copies.objects import Copier, attributes_of
from fmstats.models.copies.tensors import RealTensors


def copier() -> Copier:
    return Copier(RealTensors())


def copied(x: Any) -> Any:
    return copier().copy(x)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: {"a": x, 3: [x]},
        lambda x: collections.OrderedDict(b=x, a=x),
        lambda x: collections.defaultdict(list, {"a": x}),
        lambda x: [x, [x]],
        lambda x: (x, (x,)),
        lambda x: collections.deque([x, x], maxlen=3),
        lambda x: {"set": {1, 2}, "frozen": frozenset({3}), "of": x},
        lambda x: collections.Counter(a=3),
    ],
)
def test_containers(make: Callable[[Tensor], Any]) -> None:
    x = torch.randn(3)
    before, made = make(x), Copier(RealTensors())
    after = made.copy(before)
    assert type(after) is type(before)
    assert after is not before
    assert repr(after) == repr(before)
    assert getattr(after, "maxlen", None) == getattr(before, "maxlen", None)
    assert made.copy(before) is after is made.find(before)
    x += 1
    assert repr(after) == repr(make(x - 1))


def test_what_cannot_change_is_itself() -> None:
    class Colour(enum.Enum):
        RED = 1

    unchanging = (1, ("a", (None, Colour.RED)), math, Colour, torch.float32)
    assert copied(unchanging) is unchanging
    for each in (math.sqrt, operator.add, functools.reduce, nn.functional.relu, len, Colour.RED):
        assert copied(each) is each


def test_a_default_dict_makes_what_it_made() -> None:
    table: list[int] = []
    after = copied(collections.defaultdict(lambda: table, {"a": table}))
    assert after["new"] is after["a"]
    assert after["a"] is not table


def test_what_holds_itself() -> None:
    ring: list[Any] = []
    ring.append({"ring": ring, "again": (ring,)})
    after = copied(ring)
    assert after[0]["ring"] is after is after[0]["again"][0]
    assert after is not ring


def test_functions_have_variables_of_their_own() -> None:
    seen: list[int] = []

    def count(n: int, *, into: list[int] = seen, by: int = 1) -> int:
        into.append(n)
        return count(n - by) if n else len(seen)

    count.calls = seen  # type: ignore[attr-defined]
    after = copied(count)
    assert after(2) == 3
    assert (seen, after.calls) == ([], [2, 1, 0])
    assert (after.__name__, after.__qualname__) == (count.__name__, count.__qualname__)
    made = copier()
    both = made.copy([lambda: seen, seen])
    assert both[0]() is both[1]
    assert len(made.functions) == 1


def test_only_functions_that_hold_something_are_made_anew() -> None:
    def plain() -> int:
        return 3

    def with_default(x: int = 3) -> int:
        return x

    def only_named(*, x: int = 3) -> int:
        return x

    assert copied(plain) is plain
    for each in (with_default, only_named):
        assert copied(each) is not each
        assert copied(each)() == 3


def test_a_variable_that_holds_nothing_yet() -> None:
    def later() -> int:
        return value

    after = copied(later)
    with pytest.raises(NameError):
        after()
    value = 3
    assert later() == value


def test_methods_are_of_the_copies() -> None:
    class Shelf:
        def __init__(self) -> None:
            self.things: list[int] = []

        def put(self, n: int) -> None:
            self.things.append(n)

    shelf = Shelf()
    put, append, after = copied((shelf.put, shelf.things.append, shelf))
    put(1)
    append(2)
    assert (after.things, shelf.things) == ([1, 2], [])
    assert copied((3).bit_length)() == 2


def test_partials_and_caches() -> None:
    table = {"a": 1}

    def look(key: str, where: dict[str, int] = table) -> int:
        return where[key]

    part = functools.partial(look, "a")
    part.note = [table]  # type: ignore[attr-defined]
    after = copied(part)
    assert after() == 1
    assert after.note == [table]
    assert after.note[0] is not table
    assert after.func.__defaults__[0] is after.note[0]
    cache = functools.lru_cache(maxsize=7, typed=True)(look)
    cache("a")
    twin = copied(cache)
    assert twin.cache_info() == (0, 0, 7, 0)
    assert twin.cache_parameters() == cache.cache_parameters()
    table["a"] = 2
    assert (twin("a"), cache("a")) == (1, 1)
    of_a_library = functools.lru_cache(logging.getLogger)
    assert copied(of_a_library) is of_a_library


def test_weak_references_lead_to_the_copies() -> None:
    class Thing:
        pass

    x, module, thing, other = torch.ones(2), nn.Linear(2, 2), Thing(), Thing()
    made = copier()
    kept = made.copy([x, module, thing])
    to_x, to_module, to_thing = (made.copy(weakref.ref(each)) for each in (x, module, thing))
    assert (to_x(), to_module(), to_thing()) == tuple(kept)
    alone = weakref.ref(other)  # nothing would keep a copy alive
    assert made.copy(alone) is alone
    keys = made.copy(weakref.WeakKeyDictionary({module: [x], thing: 1}))
    assert keys[kept[1]][0] is kept[0]
    assert keys[kept[2]] == 1
    assert len(keys) == 2
    values = made.copy(weakref.WeakValueDictionary({"x": x, "t": thing}))
    assert (values["x"] is kept[0], values["t"] is kept[2], len(values)) == (True, True, 2)
    assert set(made.copy(weakref.WeakSet([module, thing]))) == {kept[1], kept[2]}
    gone = weakref.ref(Thing())
    assert copied(gone) is gone


class Slotted:
    __slots__ = ("__hidden", "empty", "one")

    def __init__(self, one: object) -> None:
        self.one, self.__hidden = one, [one]

    @property
    def hidden(self) -> list[object]:
        return self.__hidden


class Both(Slotted):
    def __init__(self, one: object) -> None:
        super().__init__(one)
        self.more = {"one": one}


class Stateful:
    def __init__(self, x: Tensor) -> None:
        self.x, self.told = x, 0

    def __getstate__(self) -> object:
        return [self.x]

    def __setstate__(self, state: Any) -> None:
        (self.x,), self.told = state, 1


def test_objects_by_their_protocols() -> None:
    x = torch.ones(2)
    slotted, both, stateful = copied([Slotted(x), Both(x), Stateful(x)])
    assert slotted.one is slotted.hidden[0] is both.one is both.hidden[0] is both.more["one"]
    assert slotted.one is stateful.x is not x
    assert stateful.told == 1
    assert not hasattr(slotted, "empty")
    assert attributes_of(Both(x)) == {"one": x, "_Slotted__hidden": [x], "more": {"one": x}}

    class Named(list[Any]):
        pass

    class Table(dict[str, Any]):
        pass

    names, table = copied([Named([x]), Table(a=x)])
    assert (type(names), type(table)) == (Named, Table)
    assert names[0] is table["a"] is not x


def test_a_way_of_its_own_to_be_copied_meets_the_twins() -> None:
    class Own:
        def __init__(self, parts: list[Tensor]) -> None:
            self.parts, self.ring = parts, [self, parts]
            self.ring.append(self.ring)

        def __deepcopy__(self, memo: dict[int, Any]) -> Own:
            return Own([memo[id(part)] for part in self.parts])

    x = torch.ones(2)
    own, twin = copied([Own([x]), x])
    assert own.parts[0] is twin is not x


def test_what_cannot_be_copied_is_shared_and_listed() -> None:
    class Closing:
        def __del__(self) -> None: ...

    lock, closing, made = threading.Lock(), Closing(), copier()
    after = made.copy([lock, closing, lock])
    assert (after[0] is lock, after[1] is closing, after[2] is lock) == (True, True, True)
    assert [type(each) for each in made.shared] == [type(lock), Closing]


def test_generators_go_on_apart() -> None:
    generator = torch.Generator().manual_seed(3)
    after = copied(generator)
    first = torch.rand(4, generator=after)
    assert torch.equal(torch.rand(4, generator=generator), first)


def test_a_tensor_s_own_attributes() -> None:
    x = torch.ones(2)
    x.note, x._private = [x], 1  # type: ignore[attr-defined]
    after = copied(x)
    assert after.note[0] is after
    assert not hasattr(after, "_private")


@pytest.mark.parametrize("make", [lambda: nn.Linear(2, 2), lambda: nn.LSTM(2, 2)])
def test_forgotten_copies_are_gone_at_once(make: Callable[[], nn.Module]) -> None:
    """Without the garbage collector, and nothing of the originals is held."""
    model = nn.Sequential(make())
    model.itself = [model]  # a ring
    made = copier()
    twin = made.copy(model)
    weight, shell = weakref.ref(next(twin.parameters())), weakref.ref(twin)
    own = weakref.ref(next(model.parameters()))
    made.forget()
    del twin
    assert weight() is shell() is None
    assert not list(made._memo)
    vars(model).clear()
    del model
    made.forget()
    assert own() is None
