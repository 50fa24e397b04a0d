"""`PositionReader` reads from the inputs of a model which of their positions count, and for whom.

A mask or the groups come by the name of an argument, from a function of all arguments, or from
`Tracker.positions`. `fmstats.operations.inputs` lays them along the inputs, from where they are
followed through the model.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, Protocol

import torch
import torch.nn as nn
from torch import Tensor

from fmstats.errors import FmstatsError
from fmstats.operations.inputs import cut, lay, tensors_of
from fmstats.operations.numbers import Numbers
from fmstats.operations.position_flow import PositionFlow
from fmstats.operations.spreads import GROUPS, Arrangement, Part
from fmstats.tracking.arguments import Arguments, GivenCall, Reader
from fmstats.tracking.given import (
    MASK,
    check_name,
    describe_given,
    number_mask,
    read_given,
    tensors_given,
)
from fmstats.tracking.group_range import GroupRange
from fmstats.tracking.mask_choice import AUTO, INPUTS, MaskChoice
from fmstats.tracking.numbers_way import NumbersWay

# Arguments of models that are masks under mask="auto", and the inputs that each is of, by what
# their names begin with; "" are all that no other has.
MASKS = {
    "attention_mask": "",
    "decoder_attention_mask": "decoder_",
    "pixel_attention_mask": "pixel_",
    "pixel_mask": "pixel_",
    "src_key_padding_mask": "src",
    "tgt_key_padding_mask": "tgt",
}
_MOST_WAYS = 4096
_OUTSIDE = "came outside of a forward pass of the tracked model"


class Asking(Protocol):
    """The options of a tracker that ask for positions, as of `track`."""

    @property
    def mask(self) -> object:
        """Return the mask."""

    @property
    def mask_mismatch(self) -> str:
        """Return what is done where it does not fit."""

    @property
    def groups(self) -> str | Reader | None:
        """Return the groups."""

    @property
    def max_groups(self) -> int:
        """Return how many there may be."""


class _Thread(threading.local):
    """What a reader knows of the pass of a thread.

    Attributes:
        given: the mask and the groups that `Tracker.positions` gives for it.
        current: where its positions are; None: all count; else why that is not known.
    """

    given: dict[str, Tensor] | None = None
    current: PositionFlow | str | None = _OUTSIDE


class PositionReader:
    """A reader reads the numbers of the positions of each forward pass.

    Args:
        model: that is tracked.
        options: of its tracker, which are checked.

    Attributes:
        groups: which there are.

    Raises:
        FmstatsError: an argument that the model does not have.
    """

    def __init__(self, model: nn.Module, options: Asking) -> None:
        masks = MaskChoice(options.mask)
        asked, self._told = masks.of_inputs, masks.told
        self._model = weakref.ref(model)  # a tracker keeps no model alive
        self._mismatch, self.groups = options.mask_mismatch, GroupRange(options.max_groups)
        self._groups = options.groups
        self._masks: Sequence[str] | Reader = ()
        if asked == AUTO:
            self._masks = self._arguments.choose("mask", MASKS)
        elif asked is not None:
            self._masks = [asked] if isinstance(asked, str) else asked
        for reader in (asked, *self._told.values()):
            if isinstance(reader, str) and reader != AUTO:
                check_name(reader)
                self._arguments.check("mask", reader)
        if options.groups is not None:
            self._arguments.check("groups", options.groups)
        self._thread = _Thread()
        self._givers, self._lock = 0, threading.Lock()  # in how many places positions are given
        self._ways: dict[tuple[Arrangement, int], NumbersWay] = {}

    @cached_property
    def _arguments(self) -> Arguments:  # when they are needed: most trackers ask for no positions
        model = self._model()
        assert model is not None  # it is tracked, or in its pass
        return Arguments(model)

    @property
    def asks(self) -> bool:
        """Return whether anything is asked of the passes of this thread."""
        return bool(self._masks or self._told or self._groups or self._thread.given is not None)

    @property
    def may_ask(self) -> bool:
        """Return whether anything is asked of the passes of this thread, or given in another."""
        return self.asks or self._givers > 0

    @property
    def current(self) -> PositionFlow | str | None:
        """Return where the positions of the pass of this thread are, or why nobody knows.

        None where all of them count.
        """
        current = self._thread.current
        return current if current is not _OUTSIDE or self.asks else None

    def way(self, arrangement: Arrangement, room: int) -> NumbersWay:
        """Return the way of tensors that are arranged so; layers that agree share one."""
        key = arrangement, room
        if key not in self._ways and len(self._ways) < _MOST_WAYS:
            self._ways[key] = NumbersWay(self, arrangement, room)
        return self._ways.get(key) or NumbersWay(self, arrangement, room)

    @contextmanager
    def giving(self, mask: Tensor | None, groups: Tensor | None) -> Iterator[None]:
        """Take these for the passes within it, instead of what is asked of their inputs.

        Raises:
            FmstatsError: as `tensors_given`.
        """
        given = tensors_given({MASK: mask, GROUPS: groups})
        before, self._thread.given = self._thread.given, given
        with self._lock:
            self._givers += 1
        try:
            yield
        finally:
            self._thread.given = before
            with self._lock:
                self._givers -= 1

    def begin(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> PositionFlow | None:
        """Read the positions of a pass of this thread; return where they are in its inputs.

        None where all of them count, or where that could not be read, which is warned of.

        Args:
            args: that the model is called with.
            kwargs: that it is called with as well.

        Raises:
            FmstatsError: what is given is no mask or no groups, or fits no input, and
                `mask_mismatch="raise"`.
        """
        thread = self._thread
        thread.current = None
        try:
            thread.current = found = self._read(tuple(args), dict(kwargs))
        except FmstatsError as error:
            if self._mismatch == "raise":
                raise
            thread.current = f"came in a pass without a mask: {error}"
            warnings.warn(
                f"fmstats does not know which positions count: {error}",
                RuntimeWarning,
                stacklevel=3,
            )
            return None
        return found

    @contextmanager
    def during(self, flow: PositionFlow | str | None) -> Iterator[None]:
        """Take the pass of this thread for that one, within it."""
        before, self._thread.current = self._thread.current, flow
        try:
            yield
        finally:
            self._thread.current = before

    def sketch(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> PositionFlow | None:
        """Return where the positions of a pass are in its inputs, which have no data.

        None where all of them count.

        Raises:
            FmstatsError: as `begin`.
        """
        return self._read(tuple(args), dict(kwargs), sketched=True)

    def miss(self, why: str) -> None:
        """Note why the positions of the pass of this thread are not known."""
        self._thread.current = why if self.asks else None

    def end(self) -> None:
        """End the pass of this thread."""
        self._thread.current = _OUTSIDE

    def _read(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], sketched: bool = False
    ) -> PositionFlow | None:
        call = self._arguments.given(args, kwargs)
        given, told = self._given(call), self._of_layers(call)
        if not given and not told:
            return None
        masks = [id(mask) for mask in given.values()]
        tensors = tensors_of({name: x for name, x in call.named.items() if id(x) not in masks})
        self._add_silent(given, tensors)
        placed: list[tuple[Tensor, Part]] = []
        roots: dict[Hashable, Tensor] = dict(told)
        for name, found in given.items():
            covered = self._covered(name, tensors)
            key, root = self._root(name, cut(found, covered, self._arguments.time_first), sketched)
            roots[key] = root
            views = [(x, lay(root, x, self._arguments.time_first)) for x in covered]
            parts = [(x, Part(key, view)) for x, view in views if view is not None]
            if not parts:
                shapes = ", ".join(str(tuple(x.shape)) for x in covered) or "none"
                raise FmstatsError(
                    f"{describe_given(name)} of shape {tuple(found.shape)} fits no input of the "
                    f"model; the shapes of its inputs are: {shapes}"
                )
            placed += parts
        flow = PositionFlow(Numbers(roots, self._arguments.windows))
        for x, part in placed:
            flow.note(x, (*(flow.spread_of(x) or ()), part))
        return flow

    def _given(self, call: GivenCall) -> dict[str, Tensor]:
        """Return the masks of the inputs by their names, and the groups."""
        own = self._thread.given
        if own is not None:
            return own.copy()
        asked = self._masks
        named: dict[str, str | Reader] = (
            {MASK: asked} if callable(asked) else {name: name for name in asked}
        )
        if self._groups is not None:
            named[GROUPS] = self._groups
        return read_given(named, self._arguments, call)

    def _of_layers(self, call: GivenCall) -> dict[Hashable, Tensor]:
        """Return the masks that layers are told, by their keys."""
        if self._thread.given is not None:
            return {}
        found = read_given(self._told, self._arguments, call)
        return dict(self._root(name, mask) for name, mask in found.items())

    def _add_silent(self, given: dict[str, Tensor], tensors: Sequence[tuple[str, Tensor]]) -> None:
        """Add a mask under which all counts for inputs whose own, of several, was not given."""
        if callable(self._masks) or not any(name in self._masks for name in given):
            return
        for name in self._masks:
            if name not in given:
                for x in self._covered(name, tensors)[:1]:
                    given[name] = x.new_ones(x.shape[0], dtype=torch.bool)

    def _covered(self, name: str, tensors: Sequence[tuple[str, Tensor]]) -> list[Tensor]:
        """Return the inputs that a mask of some name may be of, or the groups."""
        own = MASKS.get(name, "")
        named = [x for owner, x in tensors if own and owner.startswith(own)]
        if named or name in (GROUPS, MASK):
            return named or [x for _, x in tensors]
        taken = self._arguments.names & set(MASKS) - {name}
        others = tuple(MASKS[mask] for mask in taken if MASKS[mask])
        return [x for owner, x in tensors if not owner.startswith(others)]

    def _root(self, name: str, found: Tensor, sketched: bool = False) -> tuple[Hashable, Tensor]:
        """Return the key and the root of a mask or of groups."""
        if name != GROUPS:
            return (INPUTS, name), number_mask(name, found)
        return GROUPS, self.groups.number(found, look=not sketched)
