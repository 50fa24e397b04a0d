"""What measuring means for graphs, such as CUDA's, that are captured with hooks and then replayed.

What begins a state, compiles a kernel or fills memory has to happen before a capture and is refused
within one: a replay would repeat it. A meter that took part in a capture lives on, since nobody can
tell when the graph is replayed for the last time.
"""

from __future__ import annotations

from fmstats.backends.base import Meter
from fmstats.errors import FmstatsError

# Meters whose states graphs write to, by id.
_held: dict[int, Meter] = {}


def hold(meter: Meter) -> None:
    """Keep a meter for ever: a graph that is being captured writes to its state."""
    _held[id(meter)] = meter


def refusal(what: str) -> FmstatsError:
    """The error for what cannot be done within a capture, such as "a kernel is compiled"."""
    return FmstatsError(
        f"{what} while a graph is being captured, which a replay would repeat: run a forward pass "
        "with tensors of these shapes before the capture"
    )
