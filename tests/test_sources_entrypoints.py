"""Names of Python objects: what they resolve to, and one clear error for each wrong way."""

from __future__ import annotations

import os
import sys

import pytest

from fmstats.errors import FmstatsError, list_closest
from fmstats.sources.entrypoints import (
    call_entrypoint,
    is_entrypoint,
    resolve_entrypoint,
)


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a Python file into a fresh current folder; sys.path and sys.modules are put back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)

    def write_file(name: str, text: str):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    yield write_file
    for name in set(sys.modules) - before:
        if name.startswith(("fmstats_file_", "entry_")):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("net.py:make", True),
        ("folder/net.py:Net.make", True),
        ("package.module:make", True),
        ("C:\\nets\\net.py:make", True),
        ("net.py", False),
        ("package.module", False),
        ("some/folder", False),
        ("file.npz:key", True),  # Array files are told apart by suffix, before this question.
        ("torch://x:y", False),
    ],
)
def test_forms(spec, expected):
    assert is_entrypoint(spec) is expected


def test_file_attribute_and_dotted_attribute(write):
    write("net.py", "class Maker:\n    value = 3\nnumber = 7\n")
    assert resolve_entrypoint("net.py:number") == 7
    assert resolve_entrypoint("net.py:Maker.value") == 3


def test_file_runs_once_until_it_changes(write):
    path = write("net.py", "thing = object()\n")
    first = resolve_entrypoint("net.py:thing")
    assert resolve_entrypoint(f"{path}:thing") is first
    path.write_text("thing = 'edited, and longer'\n")
    os.utime(path, ns=(1, 1))
    assert resolve_entrypoint("net.py:thing") == "edited, and longer"


def test_other_content_of_the_same_size_and_time_is_another_module(write):
    """Python takes the bytecode that it keeps of a file for any other of that size and second."""
    path = write("net.py", "number = 7\n")
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    before = sys.dont_write_bytecode
    sys.dont_write_bytecode = False
    try:
        assert resolve_entrypoint("net.py:number") == 7
        path.write_text("number = 8\n")
        os.utime(path, ns=times)
        assert resolve_entrypoint("net.py:number") == 8
    finally:
        sys.dont_write_bytecode = before
    module = resolve_entrypoint("net.py:__spec__").name
    os.utime(path)  # the same content at another time
    assert resolve_entrypoint("net.py:__spec__").name == module


def test_file_may_import_its_neighbour_and_cannot_shadow_a_package(write):
    write("deep/entry_neighbour.py", "value = 5\n")
    write("deep/torch.py", "from entry_neighbour import value\n")
    assert resolve_entrypoint("deep/torch.py:value") == 5
    assert sys.modules["torch"].__name__ == "torch"
    assert hasattr(sys.modules["torch"], "nn")


def test_dataclass_in_a_file_finds_its_module(write):
    write(
        "net.py",
        "from __future__ import annotations\nimport dataclasses\n"
        "@dataclasses.dataclass\nclass Size:\n    width: int = 4\n",
    )
    assert call_entrypoint(resolve_entrypoint("net.py:Size"), "net.py:Size").width == 4


def test_module_of_the_current_folder(write):
    write("entry_here/__init__.py", "")
    write("entry_here/parts.py", "value = 11\n")
    assert resolve_entrypoint("entry_here.parts:value") == 11


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("absent.py:make", r"'absent.py:make': there is no file 'absent.py' in "),
        ("entry_absent:make", r"no module 'entry_absent' is installed or in "),
        ("entry_absent.sub:make", r"no module 'entry_absent' is installed or in "),
        ("net.py:mak_net", r"net.py has no attribute 'mak_net'; closest: make_net"),
        ("net.py:Make.absent", r"net.py has no attribute 'Make.absent'"),
        ("net.py:", r"'net.py:' names no attribute: write net.py:NAME"),
        ("net", r"'net' is neither 'file.py:name' nor 'package.module:name'"),
    ],
)
def test_wrong_names(write, spec, message):
    write("net.py", "def make_net(): ...\nclass Make: ...\n")
    with pytest.raises(FmstatsError, match=message):
        resolve_entrypoint(spec)


@pytest.mark.parametrize(
    ("text", "cause", "message"),
    [
        ("x = 1\nraise KeyError('w')\n", KeyError, r"KeyError: 'w' \(entry_bad.py, line 2\)"),
        ("import entry_not_there\n", ModuleNotFoundError, r"No module named 'entry_not_there'"),
        ("def f(:\n", SyntaxError, r"SyntaxError: .*entry_bad.py, line 1"),
        ("raise SystemExit(3)\n", SystemExit, r"SystemExit: 3"),
    ],
)
@pytest.mark.parametrize("spec", ["entry_bad.py:make", "entry_bad:make"])
def test_error_inside_the_code_is_kept_as_cause(write, spec, text, cause, message):
    write("entry_bad.py", text)
    with pytest.raises(FmstatsError, match=message) as caught:
        resolve_entrypoint(spec)
    assert type(caught.value.__cause__) is cause
    assert not any(name.startswith("fmstats_file_entry_bad") for name in sys.modules)


def test_call_reports_needed_arguments_and_errors(write):
    write(
        "net.py",
        "def needs(width, *, depth, wide=1): ...\n"
        "def fails():\n    raise ValueError('seven')\n"
        "def gives(*rest, wide=1, **more): return 3\n",
    )
    assert call_entrypoint(resolve_entrypoint("net.py:gives"), "net.py:gives") == 3
    with pytest.raises(FmstatsError, match="called without arguments but needs width, depth"):
        call_entrypoint(resolve_entrypoint("net.py:needs"), "net.py:needs")
    with pytest.raises(FmstatsError, match=r"ValueError: seven \(net.py, line 3\)") as caught:
        call_entrypoint(resolve_entrypoint("net.py:fails"), "net.py:fails")
    assert isinstance(caught.value.__cause__, ValueError)


def test_call_without_signature():
    assert call_entrypoint(dict, "builtins:dict") == {}


def test_closest_names():
    assert list_closest("resnet5", ["resnet50", "vgg", "swin"]) == "resnet50"
    assert list_closest("zzz", ["b", "a", "c"], count=2) == "a, b"
    assert list_closest("zzz", []) == "none"
