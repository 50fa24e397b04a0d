"""Run code that Inductor generated for a GPU on the CPU, its kernels by Triton's interpreter.

    TRITON_INTERPRET=1 python -m fused.interpreter cases.pt parts.pt

`cases.pt` holds a list of code, inputs; `parts.pt` will hold the partials that each hands to
`fold`, which is not run.
"""

from __future__ import annotations

import contextlib
import re
import sys
import tempfile
import types
from collections.abc import Callable, Sequence
from typing import Any

import torch
import triton
from torch import Tensor

from fused.generated import kernels_of


class Kernel:
    """A kernel of Triton that runs as the wrapper of Inductor calls it."""

    def __init__(self, name: str, source: str) -> None:
        head, _, body = source.partition("@triton.jit")
        imports = [line for line in head.splitlines() if line.startswith(("import", "from"))]
        text = "\n".join(imports) + "\n@triton.jit" + body
        # Triton reads the source of what it runs.
        self._file = tempfile.NamedTemporaryFile("w", suffix=".py")  # noqa: SIM115
        self._file.write(text)
        self._file.flush()
        names: dict[str, Any] = {"__name__": name, "__file__": self._file.name}
        exec(compile(text, self._file.name, "exec"), names)
        self._function = names[name]
        self._tile = dict(_tile(head))
        self._constants = re.findall(r"(\w+)\s*: tl\.constexpr", body.split("\n")[1])

    def run(self, *args: Any, stream: object = None) -> None:
        """Run all programs of the kernel, one after the other."""
        rows = next(arg for arg in args if isinstance(arg, int))
        tile = {name: self._tile[name] for name in self._constants}
        self._function[(triton.cdiv(rows, tile["XBLOCK"]),)](*args, **tile)


def _tile(head: str) -> list[tuple[str, int]]:
    found = re.findall(r"'(XBLOCK|R0_BLOCK)': (\d+)", head)
    return [(name, int(size)) for name, size in found] or [("XBLOCK", 64), ("R0_BLOCK", 8)]


def partials_of(
    code: str, inputs: Sequence[Tensor], make: Callable[[str, str], Any] = Kernel
) -> list[Tensor]:
    """Return the partials that the code hands to `fold`.

    Args:
        code: of Inductor.
        inputs: of its graph.
        make: a kernel that runs, of its name and source.
    """
    taken: list[Tensor] = []

    def take(parts: Sequence[Tensor], *args: object) -> None:
        taken.extend(part.clone() for part in parts)

    code = code.replace("extern_kernels.fmstats.fold(", "_take(")
    code = code.replace("async_compile = AsyncCompile()", "async_compile = _Compile()")
    code = re.sub(r"empty_strided_cuda = .*", "empty_strided_cuda = _empty", code)
    code = re.sub(r"from torch\._C import .*get_raw_stream", "get_raw_stream = int", code)
    kernels = kernels_of(code)

    class Compile:
        def triton(self, name: str, source: str, device_str: str = "") -> Any:
            return make(name, kernels[name])

        def wait(self, names: object) -> None:
            pass

    cuda: Any = torch.cuda
    cuda._DeviceGuard = lambda *args: contextlib.nullcontext()
    cuda.set_device = lambda *args: None
    names: dict[str, Any] = {
        "_take": take,
        "_Compile": Compile,
        "_empty": lambda size, stride, dtype: torch.empty_strided(size, stride, dtype=dtype),
        "__name__": "generated",
    }
    module = types.ModuleType("generated")
    module.__dict__.update(names)
    exec(compile(code, "generated", "exec"), module.__dict__)
    module.call(list(inputs))
    return taken


def main() -> None:
    """Run the cases of one file and write their partials to another."""
    from torch._inductor.runtime import triton_helpers

    triton_helpers.set_driver_to_gpu = lambda: None
    cases = torch.load(sys.argv[1])
    torch.save([partials_of(code, inputs) for code, inputs in cases], sys.argv[2])


if __name__ == "__main__":
    main()
