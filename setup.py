"""Build fmstats._native: C++17 under pybind11, an object per instruction set, no libtorch.

FMSTATS_NATIVE=0 asks for a package without it; any other failed build is an error.
"""

from __future__ import annotations

import os
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pybind11.setup_helpers import Pybind11Extension
from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

CPU = Path("csrc/cpu")
# -ffp-contract=off: whether a * b + c is fused must be the source's choice, or the bits change with
# the compiler. Never -ffast-math: NaN tests must stay tests. -g0: debug information, which Python's
# own flags ask for, was nine tenths of the module.
FLAGS = ["-std=c++17", "-O3", "-g0", "-fvisibility=hidden", "-ffp-contract=off", "-Wall", "-Wextra"]
if os.environ.get("FMSTATS_WERROR") == "1":
    FLAGS.append("-Werror")
X86_FLAGS = {
    CPU / "isa_avx2.cpp": ["-mavx2", "-mfma", "-mf16c"],
    CPU / "isa_avx512.cpp": [
        *["-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mfma"],
        # GCC 12 calls its own AVX-512 intrinsics uninitialised.
        *["-mprefer-vector-width=512", "-Wno-maybe-uninitialized", "-Wno-uninitialized"],
    ],
}
COMMON = [
    Path("csrc/module.cpp"),
    Path("csrc/expected_tensor.cpp"),
    Path("csrc/graph_targets.cpp"),
    Path("csrc/graph_passes.cpp"),
    Path("csrc/torch_functions.cpp"),
    Path("csrc/cpu_fast_path.cpp"),
    Path("csrc/cuda_fast_path.cpp"),
    Path("csrc/cuda_fold.cpp"),
    Path("csrc/cuda/planner.cpp"),
    Path("csrc/cuda/driver.cpp"),
    CPU / "driver.cpp",
    CPU / "selection.cpp",
    CPU / "isa.cpp",
    CPU / "isa_baseline.cpp",
]
CUDA = Path("csrc/cuda")
# The kernels and what they include.
CUDA_SOURCES = [
    *[Path("csrc", name) for name in ("reread.h", "fields.h", "parts.h", "state.h", "view.h")],
    *[*CUDA.glob("*.cu"), *CUDA.glob("*.cuh"), CUDA / "args.h", CUDA / "fold_args.h"],
]


class BuildNative(build_ext):
    """Compile each source with its own flags, then link them into one module."""

    def build_extension(self, ext: Pybind11Extension) -> None:
        """Build the module from objects compiled apart."""
        openmp = [] if sys.platform == "darwin" else ["-fopenmp"]
        x86 = X86_FLAGS if platform.machine() in ("x86_64", "AMD64") else {}

        def compile_one(source: Path) -> list[str]:
            return self.compiler.compile(
                [str(source)],
                output_dir=self.build_temp,
                include_dirs=ext.include_dirs,
                extra_postargs=[*FLAGS, *openmp, *x86.get(source, [])],
            )

        # The largest first: they decide when the last one is done.
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for objects in pool.map(compile_one, [*x86, *reversed(COMMON)]):
                ext.extra_objects += objects
        ext.sources = []
        ext.extra_link_args += openmp + (["-ldl"] if sys.platform == "linux" else [])
        super().build_extension(ext)


class BuildPython(build_py):
    """Ship the CUDA sources as fmstats/csrc: they are compiled where the GPU is."""

    def run(self) -> None:
        """Build the Python files and copy the sources; an editable package has them in place."""
        super().run()
        if self.editable_mode:
            return
        for source in CUDA_SOURCES:
            target = Path(self.build_lib, "fmstats", source)
            target.parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(str(source), str(target))


def native_module() -> list[Pybind11Extension]:
    """The extension to build: none where FMSTATS_NATIVE=0 asked for none."""
    if os.environ.get("FMSTATS_NATIVE") == "0":
        return []
    headers = [str(p) for p in sorted(Path("csrc").rglob("*.h"))]
    sources = [str(p) for p in [*COMMON, *X86_FLAGS]]
    return [Pybind11Extension("fmstats._native", sources, depends=headers, cxx_std=17)]


setup(
    ext_modules=native_module(),
    cmdclass={"build_ext": BuildNative, "build_py": BuildPython},
)
