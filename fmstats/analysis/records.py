"""Hold what a watched forward pass records."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from fmstats.analysis.fields import Field

# What operations without a formula do: neither change nor combine numbers; a few operations an
# element, which no tool counts; or unknown.
MOVES, CHEAP, UNKNOWN = "moves", "cheap", "unknown"


@dataclass
class Work:
    """Holds the cost of the operations of one module itself, without its submodules.

    Attributes:
        flops: floating-point operations, a multiplication and an addition counted as two.
        traffic: bytes, if each operation reads its operands and writes its results once.
        made: elements of the floating results that needed memory of their own.
        made_bytes: their bytes.
        uncounted: calls of operations without a formula, by name and kind.
    """

    flops: int = 0
    traffic: int = 0
    made: int = 0
    made_bytes: int = 0
    uncounted: Counter[tuple[str, str]] = field(default_factory=Counter)


@dataclass
class Call:
    """Describes one call of one module.

    Attributes:
        leaf: whether the module has no submodules.
        shape: of the first floating tensor of its output (of the first tensor, if none is).
        elements, bytes: of all floating tensors of its output.
        flops: of the module with all that it calls.
        field: the receptive field of its output, if known.
    """

    name: str
    leaf: bool
    shape: tuple[int, ...] | None
    elements: int
    bytes: int
    flops: int
    field: Field | None


@dataclass
class Trace:
    """Holds what was recorded of a pass.

    Attributes:
        calls: of every module, in the order in which they ended.
        work: by module name, its submodules left out.
        peak: bytes alive at once that the pass made.
        saved: bytes that autograd keeps for the backward pass; None if the model does not run
            with gradients.
        batch: samples of the inputs; None if their number is unknown.
        notes: what the reader should know.
    """

    calls: list[Call] = field(default_factory=list)
    work: dict[str, Work] = field(default_factory=dict)
    peak: int = 0
    saved: int | None = None
    batch: int | None = None
    input_bytes: int = 0
    notes: list[str] = field(default_factory=list)
