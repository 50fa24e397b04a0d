"""`Suspension` takes a mode away while modules run that would choose another way because of it."""

from __future__ import annotations

import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
import torch.nn as nn
from torch import Tensor
from torch.nn.modules import module as calls
from torch.utils.hooks import RemovableHandle

from fmstats.models.channel_dims import ChannelRule, channel_rules
from fmstats.models.output_tensors import first_tensor
from fmstats.models.selection import ROOT
from fmstats.models.wrappers import named_modules
from fmstats.operations.channel_flow import ChannelFlow, Origin
from fmstats.operations.modes import Mode, is_active, is_traced, push, remove
from fmstats.operations.places import number_of

# These choose another way where a torch function mode is active: they run without ours.
MINDFUL = (nn.MultiheadAttention, nn.TransformerEncoder, nn.TransformerEncoderLayer)


class Holder(Protocol):
    """It tells which mode sees the operations of the pass of this thread."""

    mode: Mode | None


# By the numbers of modules: their hooks, which tell whether a module is still the same, the name
# and the rule.
RulesByType = Mapping[int, tuple["weakref.ref[Any]", str, ChannelRule]]


def rules_by_type(model: nn.Module) -> RulesByType:
    """Return the name and the rule of each layer whose type tells where its channels are."""
    rules = channel_rules(model)
    return {
        number_of(module): (weakref.ref(module._forward_hooks), name or ROOT, rules[name])
        for name, module in named_modules(model).items()
        if rules[name].own
    }


class Sources:
    """The layers whose type tells where their channels are, whatever they do within."""

    def __init__(self, rules: RulesByType, flow: ChannelFlow) -> None:
        self._rules, self._flow = rules, flow

    def note(self, module: nn.Module, output: object) -> None:
        """Note where the channels of an output are, if the type of its layer tells."""
        hooks, name, rule = self._rules.get(number_of(module), (None, "", None))
        if hooks is None or rule is None or hooks() is not module._forward_hooks:
            return
        x = first_tensor(output)
        if x is not None and not x.is_nested and x.dim() and rule.fits(x.shape):
            self._flow.note(x, Origin((rule.resolve(x.shape),), name))

    def note_positions(self, module: nn.Module, args: Sequence[Any], output: object) -> None:
        """Note where the positions of an output are, of a module that ran without a mode."""
        flow, out = self._flow.positions, first_tensor(output)
        inputs = [x for x in args if isinstance(x, Tensor)]
        if flow is None or out is None or not inputs:
            return
        attends = isinstance(module, nn.MultiheadAttention)
        value = inputs[min(2, len(inputs) - 1)] if attends else inputs[0]
        flow.attend(inputs[0], value, out, int(getattr(module, "batch_first", False)))


class Suspension:
    """While it lasts, modules that mind modes run without one, and sources note their channels.

    Its hooks are those of all modules, since some of these mind hooks of their own as well.
    """

    def __init__(self, thread: Holder, sources: Sources | None) -> None:
        assert thread.mode is not None
        self._mode, self._thread, self._sources = thread.mode, thread, sources
        self._before: list[bool] = []  # whether the mode was active, for each module it is off in
        self._handles: list[RemovableHandle] = [
            calls.register_module_forward_pre_hook(self.enter),
            # Not with_kwargs: torch 2.13 never forgets that there were such hooks.
            calls.register_module_forward_hook(self._leave, always_call=True),
        ]

    def enter(self, module: nn.Module, args: object) -> None:
        """Take the mode away from a module that minds it."""
        if isinstance(module, MINDFUL) and not is_traced() and self._is_mine():
            self._before.append(is_active(self._mode))
            self._switch(isinstance(module, nn.TransformerEncoderLayer) and _has_hooks(module))

    def _leave(self, module: nn.Module, args: Sequence[Any], output: object) -> None:
        if is_traced() or not self._is_mine():
            return
        if isinstance(module, MINDFUL) and self._before:
            self._switch(self._before.pop())
        if self._sources is not None:
            with torch._C.DisableTorchFunction():  # the mode would see what is asked of the output
                self._sources.note(module, output)
                if isinstance(module, MINDFUL):
                    self._sources.note_positions(module, args, output)

    def _is_mine(self) -> bool:
        return self._thread.mode is self._mode

    def _switch(self, on: bool) -> None:
        if on != is_active(self._mode):
            push(self._mode) if on else remove(self._mode)

    def remove(self) -> None:
        """Take the hooks away."""
        for handle in self._handles:
            handle.remove()


def _has_hooks(module: nn.Module) -> bool:
    return any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
