"""A watch follows the operations of a forward pass: where channels go, and which are layers.

Most passes are not followed: the first is, and then the first of each kind, since tensors of other
numbers of dims, another device or another mode of the model may take other ways through its code.
In the others the operations that are layers are handed to their hooks, if there are any; else
nothing is watched at all. Outputs are the same bits, watched or not.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn as nn
from torch import Tensor

from fmstats.models.selection import ROOT
from fmstats.models.wrappers import has_compiled_parts, named_modules
from fmstats.operations.channel_flow import ChannelFlow
from fmstats.operations.modes import Mode, Operations, push, remove
from fmstats.operations.places import modules_around, number_of, runs_compiled
from fmstats.operations.position_flow import PositionFlow
from fmstats.operations.suspension import MINDFUL, RulesByType, Sources, Suspension, rules_by_type

_MOST_KINDS = 4096  # of passes that are followed
_MOST_RETRIES = 16  # for operations that were met in a pass that was not


class _Thread(threading.local):
    """What a watch knows of the pass of a thread.

    Attributes:
        flow: the channels of the tensors of a pass that is followed, None in any other.
        kind: of that pass.
        mode: sees the operations of the pass, None if nothing does.
        suspension: takes `mode` away while some modules run.
    """

    flow: ChannelFlow | None = None
    kind: Hashable = None
    mode: Mode | None = None
    suspension: Suspension | None = None


class Watch:
    """A watch chooses the passes of a model that are followed, and begins and ends them.

    Args:
        operations: those that are layers; None if none shall be.
    """

    def __init__(self, operations: Operations | None = None) -> None:
        self._thread = _Thread()
        self._operations = operations
        self._kinds: set[Hashable] = set()
        self._by_size = False
        self._retries = 0
        self._rules: RulesByType | None = None
        self._watching: set[int] = set()  # the threads whose passes are watched now
        self._suspensions: set[Suspension] = set()  # those of all threads
        self._in_graph = False  # whether passes run compiled
        self._called_compiled = False  # whether that is because what calls them is compiled
        self._mindful = False  # whether the model had modules that mind modes
        self._positions_change = False  # whether the ways of positions depend on other tensors

    @property
    def operations(self) -> Operations | None:
        """Return the operations that are layers; None if none shall be."""
        return self._operations

    @property
    def in_graph(self) -> bool:
        """Return whether the model runs compiled."""
        return self._in_graph

    @property
    def goes_on(self) -> bool:
        """Return whether a pass of another thread is watched, or the next of the same kind."""
        return bool(self._operations) or bool(self._watching)

    @property
    def flow(self) -> ChannelFlow | None:
        """Return the channels of the tensors of this thread's pass, if it is followed."""
        return self._thread.flow

    def begin(
        self,
        model: nn.Module,
        args: Sequence[object],
        kwargs: Mapping[str, object],
        positions: PositionFlow | None = None,
    ) -> bool:
        """Watch the pass that begins; return whether `end` is to be called.

        Args:
            model: that begins it.
            args: it is called with.
            kwargs: it is called with as well.
            positions: those of its inputs, if layers are to know where they are.
        """
        thread, sources = self._thread, None
        if thread.mode is not None or thread.suspension is not None:
            if thread.mode is not None and count_calls(model) > 1:
                return True  # the model calls itself
            self._clean()  # after a pass that was interrupted
        self._look_for_missed()
        with torch._C.DisableTorchFunction():  # a subclass may do anything when it is asked
            kind = _kind_of(model, args, kwargs, self._by_size)
        if positions is not None:
            kind = *kind, *positions.numbers.kind(self._by_size)
        new = kind not in self._kinds and len(self._kinds) < _MOST_KINDS
        new = new or (positions is not None and self._positions_change)
        if new or self._called_compiled:  # it may run eagerly again, as after torch.export
            self._called_compiled = runs_compiled()
            self._in_graph = self._called_compiled or has_compiled_parts(model)
        if self._in_graph:  # graphs would hold the mode: they hold the operations instead
            if not self._called_compiled:
                self._kinds.add(kind)
            return False
        root = id(model)

        def is_over() -> bool:
            return not any(id(module) == root for module in modules_around())

        if new:
            thread.flow, thread.kind = ChannelFlow(), kind
            thread.flow.positions = positions
            if positions is not None:
                positions.numbers.followed = True
            thread.mode = Mode(thread.flow, _Names(model), self._operations, is_over)
            if self._rules is None:
                self._rules = rules_by_type(model)
            sources = Sources(self._rules, thread.flow)
            self._mindful = any(isinstance(module, MINDFUL) for module in model.modules())
        elif self._operations:
            thread.mode = Mode(None, None, self._operations, is_over)
        if thread.mode is None:
            return False
        if sources is not None or self._mindful:
            thread.suspension = Suspension(thread, sources)
            self._suspensions.add(thread.suspension)
        self._watching.add(threading.get_ident())
        push(thread.mode)
        if thread.suspension is not None:
            thread.suspension.enter(model, ())
        return True

    def end(self, model: nn.Module, output: object) -> None:
        """End the pass of this thread; if it failed, the next of its kind is followed, too.

        Args:
            model: that ends it.
            output: of it; None also where it failed.
        """
        thread = self._thread
        if thread.mode is None or count_calls(model) > 1:
            return
        # A pass that has an output may be one of code that handles an error of its own.
        if thread.flow is not None and (output is not None or sys.exc_info()[0] is None):
            self._kinds.add(thread.kind)  # until then other threads follow theirs, too
        self._clean()

    def _look_for_missed(self) -> None:
        if self._operations is not None and self._operations.missed:
            self._operations.missed = False
            self.follow_again()

    def follow_again(self) -> None:
        """Follow the next pass of each kind again: one went another way than those before."""
        self._retries += 1
        if self._retries <= _MOST_RETRIES:
            self._kinds.clear()

    def _clean(self) -> None:
        thread = self._thread
        self._watching.discard(threading.get_ident())
        if thread.mode is not None:
            remove(thread.mode)
        if thread.suspension is not None:
            thread.suspension.remove()
            self._suspensions.discard(thread.suspension)
        thread.flow = thread.mode = thread.suspension = None

    def close(self) -> None:
        """Leave nothing behind in this thread, and no hooks of passes that broke off in others."""
        self._clean()
        while self._suspensions:
            self._suspensions.pop().remove()

    def tell_sizes_apart(self) -> None:
        """Follow passes of other sizes as well, from now on.

        A layer that is called with two layouts of the same number of dims is told nothing by the
        number of dims.
        """
        self._by_size = True

    def follow_all(self) -> None:
        """Follow each pass whose positions are asked for: in each they go where tensors tell."""
        self._positions_change = True


@contextmanager
def following(model: nn.Module) -> Iterator[Watch]:
    """Follow the passes of a model, each kind once, by hooks that are gone afterwards."""
    watch = Watch()

    def begin(module: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        watch.begin(module, args, kwargs)

    def end(module: nn.Module, args: object, output: object) -> None:
        watch.end(module, output)

    handles = [
        model.register_forward_pre_hook(begin, prepend=True, with_kwargs=True),
        model.register_forward_hook(end, always_call=True),
    ]
    try:
        yield watch
    finally:
        watch.close()
        for handle in handles:
            handle.remove()


def _kind_of(
    model: nn.Module, args: Sequence[object], kwargs: Mapping[str, object], by_size: bool
) -> tuple[Hashable, ...]:
    """Return what tells passes apart that may take another way through the code of a model."""
    given = [x for x in (*args, *kwargs.values()) if isinstance(x, Tensor)]
    sizes = [x.shape if by_size else x.dim() for x in given]
    return (model.training, *sizes, *(x.device for x in given))


def count_calls(model: nn.Module) -> int:
    """Count the calls of a model that run now in this thread: several where it calls itself."""
    return sum(module is model for module in modules_around())


class _Names:
    """The names of the modules of a model, and which of them runs."""

    def __init__(self, model: nn.Module) -> None:
        self._names = {number_of(m): name or ROOT for name, m in named_modules(model).items()}

    def __call__(self) -> str:
        names = (self._names.get(number_of(module)) for module in modules_around())
        return next(filter(None, names), ROOT)
