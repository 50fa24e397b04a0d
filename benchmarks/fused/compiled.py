"""What Inductor makes of a model, by a process that pretends to have a GPU: `compiled`.

To be imported beside torch, as tests and benchmarks do.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fused.generated import Call, calls_of, kernels_of

HERE = Path(__file__).parent.parent


@dataclass(frozen=True)
class Compiled:
    """Describes what was generated for a model.

    Attributes:
        calls: of its wrappers, in order.
        sources: of its Triton kernels, by name.
        partitions: that CUDA graphs are cut into, of each graph.
        mutated_not_static: arguments that change and have no fixed address.
        cpu_seconds: it took to compile, on this machine.
        reasons: why layers are not measured in their kernels, by number.
    """

    calls: tuple[Call, ...]
    sources: Mapping[str, str]
    partitions: tuple[int, ...]
    mutated_not_static: int
    cpu_seconds: float
    reasons: Mapping[str, str]

    @property
    def triton(self) -> tuple[Call, ...]:
        """Return the calls of kernels that Inductor generated."""
        return tuple(call for call in self.calls if call.triton)

    @property
    def bytes(self) -> int:
        """Return the bytes of the arguments of those."""
        return sum(call.bytes for call in self.triton)

    @property
    def measuring(self) -> dict[str, str]:
        """Return the sources of the kernels that measure."""
        return {name: source for name, source in self.sources.items() if "_known = " in source}


@functools.cache
def compiled(net: str, *flags: str) -> Compiled:
    """Return what Inductor makes of a model of `fused.nets`.

    Args:
        net: its name.
        flags: of `fused.measure`: --tracked, --train, --nchw.
    """
    made = json.loads(run("fused.measure", net, *flags))
    codes = made["codes"]
    return Compiled(
        tuple(call for code in codes for call in calls_of(code)),
        {name: source for code in codes for name, source in kernels_of(code).items()},
        tuple(made["partitions"]),
        made["mutated_not_static"],
        made["cpu_seconds"],
        made["reasons"],
    )


def machine_code(kernels: Mapping[str, str], gpu: str = "H200") -> dict[str, dict[str, Any]]:
    """Return the machine code of kernels: `fused.machine_code.Code` by name.

    Args:
        kernels: their sources, by name.
        gpu: the name of one of `hardware.gpus.GPUS`, for which they are compiled.
    """
    read: dict[str, dict[str, Any]] = json.loads(
        run("fused.machine_code", gpu, text=json.dumps(dict(kernels)))
    )
    return read


def run(module: str, *arguments: str, text: str = "", **environment: str) -> str:
    """Run a module of this package in a process of its own and return what it prints."""
    path = os.pathsep.join([str(HERE), str(HERE.parent)])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", module, *arguments],
        env={**os.environ, "PYTHONPATH": path, **environment},
        input=text,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(arguments)}: {done.stderr[-4000:]}")
    return done.stdout
