"""`FunctionalLayers` gives rows to the operations of a model that are no modules.

`F.relu(x)`, `x + y` and the like in the `forward` of a module `layer1.0` are the layers
`layer1.0/relu`, `layer1.0/add`; a second place in the code that calls `relu` is
`layer1.0/relu_1`. Places are numbered as they are first called, so that the same code has the same
names in every run; a loop calls one place several times, as it would call a module.
"""

from __future__ import annotations

import re
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn as nn

from fmstats.models.experts import find_numbers, local_name
from fmstats.models.selection import OPERATION_MARK, ROOT
from fmstats.models.wrappers import named_modules
from fmstats.operations.channel_flow import ChannelFlow
from fmstats.operations.functional import JOINS, has_number
from fmstats.operations.places import Line, Place, cut_lines, find_place, number_of
from fmstats.output.tables import format_plural
from fmstats.statistic.thresholds import Thresholds
from fmstats.tracking import taps
from fmstats.tracking.functional_choice import FunctionalChoice
from fmstats.tracking.gates import Gate
from fmstats.tracking.hooks import LayerHook
from fmstats.tracking.known_places import Key, KnownPlaces
from fmstats.tracking.layer_spec import LayerSpec
from fmstats.tracking.options import TrackOptions

TAP = "tap"  # the type of what is tapped
_LATE = "its first call was in a pass whose operations were not followed, and is left out"
_OPENED = "its first calls joined no two feature maps, and are left out"


class FunctionalLayers:
    """The operations of one tracked model, as they are found while it runs.

    Args:
        model: that is tracked.
        options: of the tracker.
        gate: of the tracker.
        add: makes a layer of the tracker, and returns the hook that feeds it.
    """

    def __init__(
        self,
        model: nn.Module,
        options: TrackOptions,
        gate: Gate,
        add: Callable[[LayerSpec], LayerHook],
    ) -> None:
        self._options, self._add = options, add
        self._choice = FunctionalChoice(options, find_numbers(model))
        self._names = {
            number_of(module): (weakref.ref(module), name or ROOT)
            for name, module in named_modules(model).items()
        }
        self._modules = frozenset(name for _, name in self._names.values())
        self._places = KnownPlaces()
        self._counts: dict[tuple[str, str], int] = {}
        self._layers: dict[str, LayerHook] = {}
        self._types: dict[str, str] = {}  # the operations of the layers
        self._lock = threading.Lock()
        self._any = False
        self._graphs: set[int] = set()  # modules whose graphs were looked through
        self._late: set[Key] = set()  # what was met in passes that were not followed
        self.missed = False
        self._gate = gate

    def __bool__(self) -> bool:
        """Return whether any was found; taps need none that looks for them."""
        return self._any

    def find(
        self,
        operation: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        flow: ChannelFlow | None,
    ) -> LayerHook | None:
        """Return the hook of the operation that is called at this place; None if it has no layer.

        Args:
            operation: its name.
            args: what it is called with.
            kwargs: what else.
            flow: the channels of tensors, in a pass that is watched. A place is given its layer in
                such a pass alone; `missed` tells of one that was met in another.
        """
        place = None if has_number(operation, args, kwargs) else find_place()
        return None if place is None else self._find_at(place, operation, args, kwargs, flow)

    def note_graph(self, module: int) -> None:
        """Note that a graph is looked through, see `GraphOperations`."""
        self._graphs.add(module)

    def find_in_graph(
        self,
        operation: str,
        module: int,
        lines: Sequence[Line],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        flow: ChannelFlow,
    ) -> LayerHook | None:
        """Return the hook of an operation in a graph, see `GraphOperations`."""
        caller = self._module(module)
        if caller is None or has_number(operation, args, kwargs):
            return None
        place = Place(caller, cut_lines(caller, lines))
        hook = self._find_at(place, operation, args, kwargs, flow)
        if hook is not None and hook.before:
            hook.layer.skip("goes into an operation of a compiled graph, and is not seen there")
            return None
        return hook

    def list_unseen(self, model: nn.Module | None) -> dict[str, tuple[str, str]]:
        """Return the parts of the model whose operations were not followed: type and reason.

        Only where the user asked for all layers: else what is left out was left out on purpose.
        """
        options, found = self._options, dict[str, tuple[str, str]]()
        if options.include is not None or model is None:
            return found
        for name, module in named_modules(model).items():
            if isinstance(module, torch.jit.ScriptModule):
                why = "TorchScript runs without Python: no feature map within it has a row"
                found[name or ROOT] = type(module).__name__, why
        watch = self._gate.watch
        if options.functional is False or watch is None:
            return found
        late = sum(key not in self._places for key in tuple(self._late))
        if watch.in_graph and id(model) not in self._graphs:
            why = "what it does itself, beside its compiled parts, is not followed"
            found.setdefault(ROOT, (type(model).__name__, why))
        elif late:
            why = f"{format_plural(late, 'functional operation')} came in no pass that was followed"
            found.setdefault(ROOT, (type(model).__name__, why))
        return found

    def remove(self) -> None:
        """Have taps see this model no more; may be called twice."""
        taps.end(self)

    def update_tap(self, name: str, module: nn.Module, value: object) -> bool:
        """Measure what is tapped in a module; return whether it is one of the model.

        A tap is given its row in a pass that is watched, if passes are: its channels are known
        there.
        """
        owner = self._owner(module)
        if owner is None:
            return False
        hook = self._find_tap(owner, name)
        if hook is None:
            self.missed = True
        elif hook.before:
            hook(module, (value,), {})
        else:
            hook(module, (), value)
        return True

    def find_tap_in_graph(self, name: str, module: int) -> LayerHook | None:
        """Return the hook of what is tapped in a graph, see `GraphOperations`."""
        known = self._module(module)
        owner = None if known is None else self._owner(known)
        if owner is None:
            return None
        hook = self._tap_layer(owner, name)
        return None if hook.before else hook

    def _owner(self, module: nn.Module) -> str | None:
        """Return the name of a module of the model, or of a replica of one; None of any other."""
        known, name = self._names.get(number_of(module), (None, ""))
        found = None if known is None else known()
        same = found is not None and found._forward_hooks is module._forward_hooks
        return name if same else None

    def _module(self, number: int) -> nn.Module | None:
        """Return the module of the model whose `id` it is."""
        found = (known() for known, _ in self._names.values())
        return next((module for module in found if id(module) == number), None)

    def _find_tap(self, owner: str, name: str) -> LayerHook | None:
        watch = self._gate.watch
        unknown = watch is not None and watch.flow is None and not watch.in_graph
        if self._tap_name(owner, name) not in self._layers and unknown:
            return None
        return self._tap_layer(owner, name)

    def _tap_layer(self, owner: str, name: str) -> LayerHook:
        with self._lock:  # of two threads that tap first, one makes the layer
            full = self._tap_name(owner, name)
            return self.layer(full, TAP, self._choice.thresholds(full, TAP, (), {}))

    def _tap_name(self, owner: str, name: str) -> str:
        """Return the name of the row of a tap, another one where something else has it."""
        full = f"{owner}{OPERATION_MARK}{name}"
        while self._is_taken(full, TAP):
            full += "_tap"
        return full

    def _find_at(
        self,
        place: Place,
        operation: str,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        flow: ChannelFlow | None,
    ) -> LayerHook | None:
        key = (number_of(place.module), operation, place.calls)
        found = self._places.find(key, place)
        if found is not None and (flow is None or not found.open):
            return found.hook
        if flow is None:
            self._late.add(key)
            self.missed = True
            return None
        with self._lock:
            found = self._places.find(key, place)
            if found is not None and not found.open:
                return found.hook  # another thread was first
            hook = None
            is_open = operation in JOINS and flow.count_known(args, kwargs) < 2
            if not is_open:  # with weights or a mask, as a loop may begin
                late = _LATE if key in self._late else None if found is None else _OPENED
                hook = self._begin(operation, place, args, kwargs, late)
            self._any = self._any or hook is not None
            self._places.note(key, place, hook, is_open)
        return hook

    def _begin(
        self,
        operation: str,
        place: Place,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        left_out: str | None,
    ) -> LayerHook | None:
        owner = self._owner(place.module)
        if owner is None:
            return None  # no module of the tracked model
        if self._options.functional is False or not self._choice.is_asked(operation, place.module):
            return None
        name = self._name(owner, operation)
        if not self._choice.is_selected(name, operation):
            return None
        return self.layer(
            name, operation, self._choice.thresholds(name, operation, args, kwargs), left_out
        )

    def restore(self, name: str, operation: str, thresholds: Thresholds) -> None:
        """Make the layer of an operation that another run has met, if its name is one."""
        known, name = self._modules, local_name(name, self._choice.experts)
        owner, mark, place = name.rpartition(OPERATION_MARK)
        if operation == TAP:  # whose name may have marks, too
            fits = any(name.startswith(owner + OPERATION_MARK) for owner in known)
        else:
            numbered = re.fullmatch(re.escape(operation) + r"(_[1-9][0-9]*)?", place)
            fits = bool(mark and numbered) and owner in known
        if fits and name not in known:
            self.layer(name, operation, thresholds)

    def layer(
        self, name: str, operation: str, thresholds: Thresholds, left_out: str | None = None
    ) -> LayerHook:
        """Return the hook of a layer, which is made if there is none of its name."""
        if name not in self._layers:
            spec = self._choice.spec(name, operation, thresholds, left_out)
            self._types[name] = operation
            self._layers[name] = self._add(spec)
        return self._layers[name]

    def _name(self, owner: str, operation: str) -> str:
        number = self._counts.get((owner, operation), 0)
        self._counts[owner, operation] = number + 1
        name = f"{owner}{OPERATION_MARK}{operation}" + (f"_{number}" if number else "")
        return self._name(owner, operation) if self._is_taken(name, operation) else name

    def _is_taken(self, name: str, operation: str) -> bool:
        """Tell whether a module has the name, or a row of another operation or a tap."""
        if name in self._types:
            return self._types[name] != operation
        return name in self._modules
