"""Build and load the stand-in for CUDA's device guard, which has to be there before torch is.

Torch is not imported here: whoever loads the guard imports it next. It needs a C++ compiler, once
for each version of torch; the library is kept in the cache folder of the user.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_name("guard.cpp")


def why_not() -> str | None:
    """Return what is missing, or None."""
    if sys.platform != "linux":
        return "the stand-in for CUDA's device guard is made for Linux"
    if shutil.which("g++") is None:
        return "there is no g++ to build a stand-in for CUDA's device guard"
    if Path("/dev/nvidiactl").exists():
        return "there is a driver of CUDA, beside which the stand-in was not tried"
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    return None


def load() -> None:
    """Load the guard; torch must not be imported yet."""
    assert "torch" not in sys.modules
    # What CUDA itself registers has to be there before, or it would replace the stand-in.
    for name in ("libc10.so", "libtorch_cpu.so", "libtorch_cuda.so"):
        if (library := _torch() / "lib" / name).exists():
            ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(built()), mode=ctypes.RTLD_GLOBAL)


def built() -> Path:
    """Return the library, which is built if it is not there."""
    version = importlib.metadata.version("torch")
    key = hashlib.sha256(SOURCE.read_bytes() + version.encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fmstats"
    library = cache / f"guard-{key}.so"
    if not library.exists():
        cache.mkdir(parents=True, exist_ok=True)
        unfinished = library.with_suffix(f".{os.getpid()}")
        include = _torch() / "include"
        command = ["g++", "-std=c++20", "-O1", "-fPIC", "-shared", str(SOURCE)]
        command += [f"-I{include}", f"-I{include}/torch/csrc/api/include"]
        command += [f"-L{_torch() / 'lib'}", "-lc10", "-ltorch_cpu", "-o", str(unfinished)]
        subprocess.run(command, check=True)
        unfinished.replace(library)
    return library


def _torch() -> Path:
    spec = importlib.util.find_spec("torch")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
