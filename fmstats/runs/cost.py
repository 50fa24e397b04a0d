"""Which share of a run's time goes into its statistics, from some of its passes.

By the host's clock: on a GPU, the share of the host's time, not of the GPU's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch.nn as nn

from fmstats.tracking.sampling import clock

_ONE_IN = 16  # cycles of passes


class Cost:
    """Times the hooks of a tracker in some passes by hooks of its own before and after them.

    Timed are whole cycles of `every` passes, so that measured ones have the share among them that
    they have in the run: the first two, of which the first is forgotten because it warms up, and
    then one in `_ONE_IN`.

    Args:
        modules: those whose last hook is the tracker's.
        of: what the tracker measures; "grad_output" is beyond what is timed here.
        every: passes in a cycle.
        begun: passes that the cycles are ahead.
    """

    def __init__(self, modules: Iterable[nn.Module], of: str, every: int, begun: int) -> None:
        self._modules = [] if of == "grad_output" else list(dict.fromkeys(modules))
        self._before = of == "input"
        self._every, self._passes = every, begun % every
        self._began: float = 0.0
        self._last = clock()
        self._warm = False
        self._hooks = self._all = self._now = 0.0

    @property
    def share(self) -> float | None:
        """Of the time of the batches timed, reading included; None before there is one."""
        return self._hooks / self._all if self._all else None

    @contextmanager
    def batch(self) -> Iterator[None]:
        """One batch through the model, read before."""
        cycle = self._passes // self._every
        if not self._modules or not (cycle < 2 or cycle % _ONE_IN == 0):
            yield
            self._passes += 1
            self._last = clock()
            return
        self._now = 0.0
        with self._brackets():
            yield
        self._passes += 1  # not of a batch that raised: the tracker forgets it, too
        if cycle and not self._warm:
            self._warm, self._hooks, self._all = True, 0.0, 0.0
        last, self._last = self._last, clock()
        self._hooks += self._now
        self._all += self._last - last

    @contextmanager
    def _brackets(self) -> Iterator[None]:
        with ExitStack() as stack:
            for module in self._modules:
                for handle in self._surround(module):
                    stack.callback(handle.remove)
            yield

    def _surround(self, module: nn.Module) -> list[Any]:
        hooks: Any = module._forward_pre_hooks if self._before else module._forward_hooks
        register: Any = (
            module.register_forward_pre_hook if self._before else module.register_forward_hook
        )
        tracking = next(reversed(hooks))
        begin, end = register(self._begin), register(self._end)
        for number in (tracking, end.id):  # begin, then the tracker's, then end
            hooks.move_to_end(number)
        return [begin, end]

    def _begin(self, *_: object) -> None:
        self._began = clock()

    def _end(self, *_: object) -> None:
        self._now += clock() - self._began
