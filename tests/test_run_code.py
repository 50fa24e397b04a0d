"""The fingerprint of code covers what a call runs, and for packages their version."""

from __future__ import annotations

import functools
import importlib.metadata
import sys
import types
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from fmstats._version import __version__
from fmstats.runs.code import fingerprint_code, fingerprint_forward, list_versions, own_classes
from fmstats.runs.fingerprints import Fingerprints


def made(source: str, name: str = "f", **names: object) -> Callable[..., object]:
    """The function of this name in a module of this source."""
    space: dict[str, object] = {"__name__": "some_module", "nn": nn, "torch": torch, **names}
    exec(source, space)
    return space[name]  # type: ignore[return-value]


def of(value: object) -> bytes:
    prints = Fingerprints(fingerprint_code)
    found = fingerprint_code(value, prints)
    assert prints.unknown == []
    return found


def of_forward(source: str) -> bytes:
    prints = Fingerprints(fingerprint_code)
    found = fingerprint_forward(made(source, "Net"), prints)  # type: ignore[arg-type]
    assert prints.unknown == []
    return found


FUNCTIONS = [
    "def f(x): return x",
    "def f(y): return y",
    "def g(x): return x\nf = g",
    "def f(x, /): return x",
    "def f(*, x): return x",
    "def f(x=1): return x",
    "def f(x=2): return x",
    "def f(*, x=1): return x",
    "def f(*, x=2): return x",
    "def f(x): return x + 1",
    "def f(x): return x + 2",
    "def f(x): return x - 1",
    "def f(x): return (lambda y: y + 1)(x)",
    "def f(x): return (lambda y: y + 2)(x)",
    "def f(x): return x.real",
    "def f(x): return x.imag",
    "BY = 1\ndef f(x): return x * BY",
    "BY = 2\ndef f(x): return x * BY",
    "def g(x): return 1\ndef f(x): return g(x)",
    "def g(x): return 2\ndef f(x): return g(x)",
    "BY = 1\ndef f(x): return [y * BY for y in x]",
    "BY = 2\ndef f(x): return [y * BY for y in x]",
    "def f(x): return absent(x)",
    "async def f(x): return x",
    "def outer(z):\n def f(x): return x * z\n return f\nf = outer(1)",
    "def outer(z):\n def f(x): return x * z\n return f\nf = outer(2)",
]


def test_functions_differ_by_what_they_run() -> None:
    found = [of(made(source)) for source in FUNCTIONS]
    assert found == [of(made(source)) for source in FUNCTIONS]
    assert len(set(found)) == len(found)


@pytest.mark.parametrize(
    "same", ["def f(x):\n 'What it does.'\n return x", "\n\n# A line.\ndef f(x): return x"]
)
def test_documentation_and_place_make_no_difference(same: str) -> None:
    with_doc = "def f(x):\n 'Another text.'\n return x"
    assert of(made(same)) == of(made(with_doc if "'" in same else FUNCTIONS[0]))
    kept = ["def f(x):\n 'Doc.'\n return 'a'", "def f(x):\n 'Doc.'\n return 'b'"]
    assert of(made(kept[0])) != of(made(kept[1]))


def test_a_cell_that_is_empty_yet_is_left_out() -> None:
    late = "def outer():\n def f(x): return x * z\n if x_known: z = 1\n return f\nf = outer()"
    empty, filled = made(late, x_known=False), made(late, x_known=True)
    assert of(empty) == of(made(late, x_known=False)) != of(filled)


MEMBERS = [
    *("def m(self): return {}", "@staticmethod\n def m(): return {}"),
    *("@classmethod\n def m(cls): return {}", "@property\n def m(self): return {}"),
]


@pytest.mark.parametrize("member", MEMBERS)
@pytest.mark.parametrize("parent", ["", "class C(C): pass"])
def test_a_class_has_what_its_instances_may_run(member: str, parent: str) -> None:
    one, same, other, bare = (
        of(made(f"class C:\n {body}\n{parent}", "C"))
        for body in (member.format(1), member.format(1), member.format(2), "pass")
    )
    assert one == same
    assert len({one, other, bare}) == 3


NET = """
class Base(nn.Module):
    {base}
class Net(Base):
    by = {by}
    def forward(self, x): return self.{called}(x) * self.by
    def unused(self, x): return {unused}
"""
CALLED = [
    *("def m(self, x): return {}", "@staticmethod\n    def m(x): return {}"),
    *("@classmethod\n    def m(cls, x): return {}", "@property\n    def m(self): return {}"),
    *("@cached\n    def m(self): return {}", "m = [{}]"),
    # What it names in turn is of the same class.
    "def m(self, x): return self.n(x)\n    def n(self, x): return {}",
    *(f"{head}\n    def m(self): return self.n\n    n = {{}}" for head in ("@property", "@cached")),
    "@classmethod\n    def m(cls, x): return cls.n\n    n = {}",
]


@pytest.mark.parametrize("called", CALLED)
def test_a_forward_has_the_members_that_it_names(called: str) -> None:
    head = "from functools import cached_property as cached\n"

    def net(value: int, by: int = 1, unused: int = 1) -> bytes:
        base = called.format(value)
        return of_forward(head + NET.format(base=base, by=by, unused=unused, called="m"))

    assert net(1) == net(1) == net(1, unused=2)
    assert len({net(1), net(2), net(1, by=2)}) == 3


def test_members_that_call_each_other_end() -> None:
    def net(value: int) -> bytes:
        base = f"def m(self, x): return self.m(x) if x else {value}"
        return of_forward(NET.format(base=base, by=1, unused=1, called="m"))

    assert net(1) == net(1) != net(2)


@pytest.mark.parametrize("name", ["__call__", "__getattr__", "forward"])
def test_what_a_call_of_a_module_begins_with_counts(name: str) -> None:
    one, other = (
        of_forward(f"class Net(nn.Module):\n def {name}(self, x): return {value}")
        for value in (1, 2)
    )
    assert one != other


def installed(name: str, version: str | None, folder: str, **members: object) -> types.ModuleType:
    package = types.ModuleType(name)
    package.__file__ = f"/lib/{folder}/{name}/__init__.py"
    vars(package).update(members)
    if version is not None:
        package.__version__ = version  # type: ignore[attr-defined]
    return package


@pytest.mark.parametrize("folder", ["site-packages", "dist-packages", "src"])
@pytest.mark.parametrize("version", ["9.5", None])
def test_an_installed_package_counts_by_its_version(
    monkeypatch: pytest.MonkeyPatch, folder: str, version: str | None
) -> None:
    """One that is not known to the index of packages gives its version itself."""
    name = f"some_{folder.replace('-', '_')}_{version is None}"
    source = "BY = {}\ndef g(x): return BY\nclass C:\n by = {}\n def m(self): return {}"

    def print_of(value: int) -> tuple[list[bytes], dict[str, str]]:
        text = source.format(value, value, value)
        g = made(text, "g", __name__=name)
        c = made(text, "C", __name__=name)
        monkeypatch.setitem(sys.modules, name, installed(name, version, folder, g=g, C=c))
        user = "def f(x): return (p.g(x), p.C(x))"
        prints = Fingerprints(fingerprint_code)
        found = [made(user, p=sys.modules[name]), made("def f(x): return g(x)", g=g), c]
        return [fingerprint_code(each, prints) for each in found], prints.packages

    (first, packages), (second, _) = print_of(1), print_of(2)
    assert len(set(first)) == 3
    assert {len(each) for each in first} == {16}
    if folder == "src":
        assert packages == {}
        assert not set(first) & set(second)
    else:
        assert packages == {name: version or "unknown"}
        assert first == second


def test_the_version_of_the_index_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytest, "__version__", "of another time")
    prints = Fingerprints(fingerprint_code)
    fingerprint_code(made("def f(x): return p.skip(x)", p=pytest), prints)
    assert prints.packages == {"pytest": importlib.metadata.version("pytest")}


def test_modules_within_modules_are_followed_by_name_once() -> None:
    def model(value: int) -> bytes:
        outer, inner = types.ModuleType("some_outer"), types.ModuleType("some_outer.inner")
        outer.inner, inner.value, inner.outer = inner, value, outer  # type: ignore[attr-defined]
        inner.unused = value + 1  # type: ignore[attr-defined]
        outer.unused = value + 2  # type: ignore[attr-defined]
        return of(made("def f(x): return outer.inner.outer.inner.value", outer=outer))

    assert model(1) == model(1) != model(2)


def test_versions_stand_for_what_has_no_fingerprint_of_its_code() -> None:
    assert list_versions() == {
        **{"fmstats": __version__, "torch": torch.__version__, "numpy": np.__version__},
        "python": ".".join(map(str, sys.version_info[:2])),
    }
    assert own_classes(nn.ReLU) == []
    own = made("class Net(nn.ReLU): pass", "Net")
    assert own_classes(own) == [own]  # type: ignore[arg-type]
    assert of(functools.wraps) != of(functools.update_wrapper)
