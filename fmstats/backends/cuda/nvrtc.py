"""NVRTC, which every CUDA build of torch brings, compiles csrc/cuda for the GPU at hand.

A kernel is compiled when it is first needed, for one dtype, one mode and what is asked for beside,
in about a second, and kept on disk. An entry of the cache is named by all that its code depends on
and carries its own checksum: a damaged one is compiled again, and a folder that cannot be written
is done without.
"""

from __future__ import annotations

import hashlib
import importlib
import os
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from fmstats.backends.cuda.asked import NOTHING, Asked
from fmstats.errors import FmstatsError, needs
from fmstats.statistic.fields import MODES, sources

KERNELS = (
    *("rows", "rows_warp", "ragged", "ragged_warp"),
    *("strided", "strided_warp", "columns", "columns_one"),
)
GROUPED = (  # of positions in groups
    *("grouped_rows", "grouped_rows_warp", "grouped_strided", "grouped_strided_warp"),
    *("grouped_columns", "grouped_columns_one"),
)
BEGIN_PASS = "begin_pass"  # of a graph: the same for every dtype and mode
FOLD = "fold_graph"  # of partials: the same for every dtype and mode
LIKELY = ("rows", "rows_warp", "ragged_warp", "columns")  # of dense tensors
ENTRY = "fmstats_measure"  # the name of every kernel in its module

PLAIN, UPPER, ALL = map(MODES.index, ("plain", "upper", "all"))  # what kernels are compiled with

OLDEST = 80  # the compute capability that the kernels need, times 10


def bindings(name: str) -> ModuleType:
    """Import `cuda.bindings.nvrtc` or `.driver`.

    Raises:
        FmstatsError: the package cannot be imported.
    """
    install = "'fmstats[cuda12]' or '[cuda13]', whichever CUDA torch was built for"
    with needs("the cuda backend", "cuda-bindings", install):
        return importlib.import_module(f"cuda.bindings.{name}")


def compile_kernel(
    kernel: str, dtype: int, mode: int, target: str, asked: Asked = NOTHING
) -> bytes:
    """Return the machine code of one kernel, from the cache or compiled now.

    Args:
        kernel: one of `KERNELS` or `GROUPED`, or `BEGIN_PASS` or `FOLD`.
        dtype: the native module's number of the element type.
        mode: the place of one in `MODES`.
        target: "sm_90" gives a cubin for that GPU, "compute_90" PTX for it and all later ones.
        asked: what it measures beside what it always does.

    Raises:
        FmstatsError: no NVRTC here, a target it does not know, source that does not compile (with
            the compiler's log).
    """
    options = [
        f"--gpu-architecture={target}",
        "--std=c++17",
        "--fmad=false",  # whether a * b + c is fused must be the source's choice
        f"-DFMSTATS_KERNEL={kernel}",
        f"-DFMSTATS_DTYPE={dtype}",
        f"-DFMSTATS_MODE={mode}",
        *asked.options,
    ]
    entry = _cache_entry(options)
    code = _read_entry(entry)
    if code is None:
        code = _compile("fold_kernel.cu" if kernel == FOLD else "kernels.cu", options)
        _write_entry(entry, code)
    return code


@cache
def version() -> tuple[int, int]:
    """Return the version of NVRTC.

    Raises:
        FmstatsError: there is none here.
    """
    major, minor = _call("nvrtcVersion")
    return int(major), int(minor)


def target_for(capability: tuple[int, int]) -> str:
    """Return what to compile for a GPU of this compute capability.

    That is its own machine code, or, where this NVRTC is older than the GPU, PTX of the newest
    capability that both know, which the driver translates.

    Raises:
        FmstatsError: no NVRTC here, or the GPU is older than anything it compiles for.
    """
    (known,) = _call("nvrtcGetSupportedArchs")
    wanted = 10 * capability[0] + capability[1]
    if wanted in known and wanted >= OLDEST:
        return f"sm_{wanted}"
    older = [arch for arch in known if OLDEST <= arch < wanted]
    if not older:
        targets = ", ".join(f"sm_{arch}" for arch in known if arch >= OLDEST)
        raise FmstatsError(
            f"NVRTC {'.'.join(map(str, version()))} has no target for compute capability "
            f"{capability[0]}.{capability[1]}; those that it and the kernels know: {targets}"
        )
    return f"compute_{max(older)}"


def cache_folder() -> Path:
    """Return where compiled kernels are kept: $XDG_CACHE_HOME/fmstats or ~/.cache/fmstats."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "fmstats"


def _call(name: str, *args: Any) -> tuple[Any, ...]:
    """Call a function of NVRTC; return what it gives after its result."""
    nvrtc = bindings("nvrtc")
    try:
        result, *values = getattr(nvrtc, name)(*args)
    except (RuntimeError, OSError) as error:  # the bindings did not find the library
        raise FmstatsError(f"NVRTC cannot be loaded: {error}") from error
    if result != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise FmstatsError(f"{name} failed: {result.name}")
    return tuple(values)


def _text(size_of: str, read: str, program: Any) -> bytes:
    (size,) = _call(size_of, program)
    text = bytes(size)
    _call(read, program, text)
    return text


def _compile(file: str, options: list[str]) -> bytes:
    folder = sources() / "cuda"
    source = (folder / file).read_bytes()
    (program,) = _call("nvrtcCreateProgram", source, file.encode(), 0, [], [])
    words = [word.encode() for word in [*options, f"--include-path={folder}"]]
    try:
        _call("nvrtcCompileProgram", program, len(words), words)
    except FmstatsError as error:
        log = _text("nvrtcGetProgramLogSize", "nvrtcGetProgramLog", program)
        raise FmstatsError(
            f"the CUDA kernels do not compile ({error}) with {' '.join(options)}:\n"
            + log.rstrip(b"\0").decode(errors="replace")
        ) from error
    if "=sm_" in options[0]:
        return _text("nvrtcGetCUBINSize", "nvrtcGetCUBIN", program)
    return _text("nvrtcGetPTXSize", "nvrtcGetPTX", program)


def source_files() -> list[Path]:
    """List all that the kernels' code may depend on."""
    return sorted([*sources().glob("*.h"), *sources().glob("cuda/*.[ch]*")])


@cache
def _source_digest() -> bytes:
    digest = hashlib.sha256()
    for path in source_files():
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.digest()


def _cache_entry(options: list[str]) -> Path:
    nvrtc = map(str, version())
    name = hashlib.sha256(_source_digest() + "\0".join([*options, *nvrtc]).encode()).hexdigest()
    return cache_folder() / f"{name[:32]}.bin"


def _read_entry(path: Path) -> bytes | None:
    try:
        stored = path.read_bytes()
    except OSError:
        return None
    digest, code = stored[:32], stored[32:]
    return code if code and hashlib.sha256(code).digest() == digest else None


def _write_entry(path: Path, code: bytes) -> None:
    # Renamed when whole: a process that dies here, or a second one, never shows a half.
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(hashlib.sha256(code).digest() + code)
        os.replace(file.name, path)
    except OSError:
        return  # every process compiles for itself then
