"""`Mode` sees the operations of a forward pass in eager mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch.overrides import TorchFunctionMode

from fmstats.operations.channel_flow import ChannelFlow
from fmstats.operations.functional import operation_of
from fmstats.operations.graphs import GraphOperations

is_traced = torch.compiler.is_dynamo_compiling


class Hook(Protocol):
    """A hook of an operation measures it.

    Attributes:
        before: it takes what goes in, and is called before the operation.
    """

    before: bool

    def __call__(self, module: Any, args: Any, found: Any) -> None:
        """Measure the output, or before it the inputs."""


class Operations(GraphOperations, Protocol):
    """Those operations of a model that are layers.

    Attributes:
        missed: an operation was met for the first time in a pass that was not followed.
    """

    missed: bool

    def __bool__(self) -> bool:
        """Return whether any was found."""

    def find(
        self,
        operation: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        flow: ChannelFlow | None,
    ) -> Hook | None:
        """Return the hook of the operation that is called; None if it is no layer."""


_LOOK_EVERY = 64  # calls


class Mode(TorchFunctionMode):
    """This mode sees each call of a public function of torch.

    Args:
        flow: carries the channels on, if the pass is followed.
        names: tells in which layer the call is.
        operations: those that are layers.
        is_over: tells whether the pass has ended. One that a signal broke off leaves the mode
            behind, until the next begins or the tracker is closed: from then on it does nothing.
    """

    def __init__(
        self,
        flow: ChannelFlow | None,
        names: Callable[[], str] | None,
        operations: Operations | None,
        is_over: Callable[[], bool],
    ) -> None:
        super().__init__()
        self._flow, self._names, self._operations = flow, names, operations
        self._is_over, self._over, self._calls = is_over, False, 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if is_traced() or self._over:  # such graphs are made once, and again without the mode
            return func(*args, **kwargs)
        self._calls += 1
        if self._calls % _LOOK_EVERY == 0 and self._is_over():
            self._over, self._flow, self._operations = True, None, None
        hook = None
        if self._operations is not None:
            operation = operation_of(func)
            if operation is not None:
                hook = self._operations.find(operation, args, kwargs, self._flow)
                if hook is not None and hook.before:
                    hook(None, args, kwargs)
        result = func(*args, **kwargs)
        if self._flow is not None and self._names is not None:
            with torch._C.DisableTorchFunction():  # subclasses and other modes see no questions
                self._flow.follow(func, args, kwargs, result, self._names)
        if hook is not None and not hook.before:
            hook(None, args, result)
        return result


push = torch._C._push_on_torch_function_stack


def is_active(mode: TorchFunctionMode) -> bool:
    """Tell whether a mode is on the stack of this thread."""
    count = torch._C._len_torch_function_stack()
    return any(torch._C._get_function_stack_at(i) is mode for i in range(count))


def remove(mode: TorchFunctionMode) -> None:
    """Take a mode off the stack, also from below others."""
    above: list[Any] = []
    while is_active(mode):
        top = torch._C._pop_torch_function_stack()
        if top is not mode:
            above.append(top)
    for other in reversed(above):
        push(other)
