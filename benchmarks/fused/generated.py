"""Read the code that Inductor generated: its kernels, and the bytes that it hands to each.

Bytes are those of a kernel's tensor arguments, each once, and twice where it is updated in place:
Inductor's own count includes buffers that fusion removed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

# A tensor that the wrapper makes, or a view of one.
_TENSOR = r"(\w+) = (?:empty_strided_\w+\(|reinterpret_tensor\(\w+, )(\([^)]*\)), "


@dataclass(frozen=True)
class Call:
    """Describes a call of the wrapper: of a Triton kernel, or of anything else.

    Attributes:
        kernel: its name.
        triton: whether Inductor has generated it.
        bytes: of its arguments; 0 if it is not Triton's.
        numbers: those it is called with: how many rows, and of what length.
    """

    kernel: str
    triton: bool
    bytes: int
    numbers: tuple[int, ...]


def kernels_of(code: str) -> dict[str, str]:
    """Return the source of each Triton kernel by its name."""
    found = re.findall(r"async_compile\.triton\('(\w+)', '''(.*?)''', device_str", code, re.DOTALL)
    return dict(found)


def calls_of(code: str) -> list[Call]:
    """Return the calls of the generated wrapper, in order."""
    signatures = {
        name: dict(re.findall(r"'(\w+)': '([^']+)'", _first(r"'signature': \{(.*?)\}", source)))
        for name, source in kernels_of(code).items()
    }
    inputs = re.findall(r"(\w+) = rand_strided\((\([^)]*\)), ", code)  # of its benchmark
    elements = {name: _product(shape) for name, shape in inputs}
    calls = []
    for line in map(str.strip, code.splitlines()):
        if made := re.match(_TENSOR, line):
            elements[made[1]] = _product(made[2])
        elif made := re.match(r"assert_size_stride\((\w+), (\([^)]*\)), ", line):
            elements.setdefault(made[1], _product(made[2]))
        elif made := re.match(r"(\w+) = (\w+)(?:; del \w+)?(?:  # reuse)?$", line):
            if made[2] in elements:
                elements[made[1]] = elements[made[2]]
        elif made := re.match(r"(\w+)\.run\((.*), stream=", line):
            arguments = _split(made[2])
            size = _bytes(signatures[made[1]], arguments, elements)
            numbers = tuple(int(argument) for argument in arguments if argument.isdigit())
            calls.append(Call(made[1], True, size, numbers))
        elif made := re.match(r"(?:\w+ = )?((?:extern_kernels|torch\.ops)\.[\w.]+)\(", line):
            calls.append(Call(made[1], False, 0, ()))
    return calls


def _bytes(signature: Mapping[str, str], arguments: list[str], elements: Mapping[str, int]) -> int:
    size = 0
    for argument, (name, kind) in zip(arguments, signature.items(), strict=False):
        if kind.startswith("*"):
            view = re.match(r"reinterpret_tensor\(\w+, (\([^)]*\))", argument)
            count = _product(view[1]) if view else elements[argument]
            size += count * _item_bytes(kind[1:]) * (2 if name.startswith("in_out") else 1)
    return size


def _item_bytes(kind: str) -> int:
    """Return the bytes of Triton's name of a type, such as bf16, fp32 or i1."""
    return max(int(_first(r"(\d+)", kind)), 8) // 8


def _product(shape: str) -> int:
    return prod(int(size) for size in re.findall(r"\d+", shape))


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.DOTALL)
    assert found is not None, (pattern, text[:200])
    return found[1]


def _split(arguments: str) -> list[str]:
    """Split at the commas that are in no brackets."""
    parts, depth = [""], 0
    for character in arguments:
        depth += (character in "([") - (character in ")]")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]
