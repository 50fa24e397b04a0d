"""Compiling kernels where the GPU is: the cache, targets, and what is said when it fails."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cuda_host
import pytest

from fmstats.backends.cuda import nvrtc
from fmstats.errors import FmstatsError
from fmstats.statistic.fields import sources

pytestmark = cuda_host.needs_nvrtc

ARGUMENTS = ("strided_warp", 0, nvrtc.PLAIN, "compute_90")


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "fmstats"


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    done: list[list[str]] = []
    real = nvrtc._compile
    monkeypatch.setattr(nvrtc, "_compile", lambda f, o: (done.append(o), real(f, o))[1])
    return done


def test_a_kernel_is_compiled_once(folder: Path, compilations: list[list[str]]) -> None:
    code = nvrtc.compile_kernel(*ARGUMENTS)
    assert b".visible .entry fmstats_measure" in code
    assert nvrtc.compile_kernel(*ARGUMENTS) == code
    assert len(compilations) == 1
    assert len(list(folder.iterdir())) == 1  # and no temporary file is left


@pytest.mark.parametrize("damage", ["truncated", "changed", "empty"])
def test_a_damaged_entry_is_compiled_again(
    folder: Path, compilations: list[list[str]], damage: str
) -> None:
    code = nvrtc.compile_kernel(*ARGUMENTS)
    (entry,) = folder.iterdir()
    stored = entry.read_bytes()
    changed = stored[:99] + bytes([stored[99] ^ 1]) + stored[100:]
    entry.write_bytes({"truncated": stored[:-9], "changed": changed, "empty": b""}[damage])
    assert nvrtc.compile_kernel(*ARGUMENTS) == code
    assert len(compilations) == 2
    assert entry.read_bytes() == stored


def test_what_the_code_depends_on_names_the_entry(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {nvrtc._cache_entry(["--gpu-architecture=sm_90"])}
    names.add(nvrtc._cache_entry(["--gpu-architecture=sm_100"]))
    monkeypatch.setattr(nvrtc, "version", lambda: (12, 4))
    names.add(nvrtc._cache_entry(["--gpu-architecture=sm_90"]))
    monkeypatch.setattr(nvrtc, "_source_digest", lambda: b"another source")
    names.add(nvrtc._cache_entry(["--gpu-architecture=sm_90"]))
    assert len(names) == 4


def test_the_digest_is_of_every_file_that_kernels_include() -> None:
    left, seen = [sources() / "cuda" / "kernels.cu"], set()
    while left:
        path = left.pop().resolve()
        seen.add(path)
        includes = re.findall(r'#include "(.+)"', path.read_text())
        left += [path.parent / name for name in includes if (path.parent / name) not in seen]
    assert len(seen) > 8
    assert seen <= {path.resolve() for path in nvrtc.source_files()}


@pytest.mark.parametrize("place", ["a file", "forbidden"])
def test_a_folder_that_cannot_be_written_is_done_without(
    folder: Path,
    compilations: list[list[str]],
    place: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if place == "a file":
        folder.write_text("in the way")
    else:
        monkeypatch.setattr(nvrtc.tempfile, "NamedTemporaryFile", _refuse)
    code = nvrtc.compile_kernel(*ARGUMENTS)
    assert nvrtc.compile_kernel(*ARGUMENTS) == code
    assert len(compilations) == 2


def _refuse(*_: object, **__: object) -> None:
    raise PermissionError("read-only file system")


def test_source_that_does_not_compile(folder: Path) -> None:
    with pytest.raises(FmstatsError, match=r"(?s)NVRTC_ERROR_COMPILATION\) with .*error: .*9999"):
        nvrtc.compile_kernel("rows", 9999, nvrtc.ALL, "sm_90")


@pytest.mark.parametrize(
    ("capability", "target"),
    [((8, 0), "sm_80"), ((9, 0), "sm_90"), ((12, 0), "sm_120"), ((19, 9), "compute_")],
)
def test_targets(capability: tuple[int, int], target: str) -> None:
    assert nvrtc.target_for(capability).startswith(target)


def test_a_gpu_that_is_too_old() -> None:
    with pytest.raises(FmstatsError, match=r"no target for compute capability 7\.5; .*: sm_80, "):
        nvrtc.target_for((7, 5))


def test_without_the_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(FmstatsError, match=r"needs cuda-bindings: pip install 'fmstats\[cuda12\]'"):
        nvrtc.target_for((9, 0))


def test_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> Any:
        raise RuntimeError("libnvrtc.so.13 was not found")

    monkeypatch.setattr(nvrtc, "bindings", lambda _: SimpleNamespace(nvrtcVersion=missing))
    nvrtc.version.cache_clear()
    with pytest.raises(FmstatsError, match=r"NVRTC cannot be loaded: libnvrtc\.so\.13 was not"):
        nvrtc.version()
    monkeypatch.undo()
    assert nvrtc.version() >= (12, 0)
