"""`PositionReader` reads from the inputs of a model which of their positions count, and for whom.

A mask or the groups come by the name of an argument, from a function of all arguments, or from
`Tracker.positions`. `fmstats.operations.inputs` lays them along the inputs, from where they are
followed through the model.
"""

from __future__ import annotations

import inspect
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
import torch.nn as nn
from torch import Tensor

from fmstats.errors import FmstatsError, list_closest
from fmstats.models.wrappers import unwrap
from fmstats.operations.inputs import cut, lay, tensors_of
from fmstats.operations.position_flow import PositionFlow
from fmstats.operations.spreads import GROUPS, Numbers, Part

# A function of the arguments of a forward pass, which gives what is asked of them or None.
Reader = Callable[[tuple[Any, ...], dict[str, Any]], "Tensor | None"]

# Arguments of models that are masks under mask="auto", and the inputs that each is of, by what
# their names begin with; "" are all that no other has.
MASKS = {
    "attention_mask": "",
    "decoder_attention_mask": "decoder_",
    "pixel_attention_mask": "pixel_",
    "pixel_mask": "pixel_",
}
AUTO = "auto"
MASK = "mask"
MOST_DIMS = 3
MOST_GROUPS = 255


_FRAMES = "_get_feat_extract_output_lengths"
_OUTSIDE = "came outside of a forward pass of the tracked model"


class Given(NamedTuple):
    """What `Tracker.positions` gives for the passes within it."""

    mask: Tensor | None
    groups: Tensor | None


class _Thread(threading.local):
    """What a reader knows of the pass of a thread.

    Attributes:
        given: what is given for it, instead of what its inputs say.
        current: where its positions are; None: all count; else why that is not known.
    """

    given: Given | None = None
    current: PositionFlow | str | None = _OUTSIDE


class PositionReader:
    """A reader reads the numbers of the positions of each forward pass.

    Args:
        model: that is tracked.
        mask: as of `track`.
        groups: as of `track`.
        most_groups: how many there may be.
        mismatch: as `mask_mismatch` of `track`.

    Raises:
        FmstatsError: an argument that the model does not have.
    """

    def __init__(
        self,
        model: nn.Module,
        mask: str | Reader | None = None,
        groups: str | Reader | None = None,
        most_groups: int = 64,
        mismatch: str = "skip",
    ) -> None:
        self._places, self._names, takes_any = _arguments_of(model)
        self.most_groups, self._mismatch = most_groups, mismatch
        self._seen = 1  # one more than the largest group that a CPU has shown
        self._masks: Sequence[str] | Reader = ()
        if mask == AUTO:
            self._masks = [name for name in MASKS if name in self._names]
            if not self._masks:
                raise FmstatsError(
                    f"mask='auto': forward() of {type(model).__name__} takes none of "
                    f"{', '.join(MASKS)}; name its argument, or give a function of its arguments"
                )
        elif isinstance(mask, str):
            self._masks = [mask]
        elif mask is not None:
            self._masks = mask
        self._groups = groups
        for option, name in (("mask", mask), ("groups", groups)):
            known = takes_any or name in self._names or name == AUTO
            if isinstance(name, str) and not known:
                raise FmstatsError(
                    f"{option}={name!r}: forward() of {type(model).__name__} has no such argument; "
                    f"closest: {list_closest(name, self._names)}"
                )
        self._thread = _Thread()
        # Models of speech that tell how many frames so many samples make.
        self._windows = any(hasattr(part, _FRAMES) for part in model.modules())

    @property
    def asks(self) -> bool:
        """Return whether anything is asked of the passes of this thread."""
        return bool(self._masks) or self._groups is not None or self._thread.given is not None

    @property
    def current(self) -> PositionFlow | str | None:
        """Return where the positions of the pass of this thread are, or why nobody knows.

        None where all of them count.
        """
        current = self._thread.current
        return current if current is not _OUTSIDE or self.asks else None

    def count_groups(self, device: torch.device) -> int:
        """Return for how many groups a state on a device needs room."""
        if device.type != "cpu":
            return self.most_groups  # nothing on the host knows which of them come
        room = 1
        while room < self._seen:
            room *= 2
        return min(room, self.most_groups)

    @contextmanager
    def giving(self, mask: Tensor | None, groups: Tensor | None) -> Iterator[None]:
        """Take these for the passes within it, instead of what is asked of their inputs."""
        before, self._thread.given = self._thread.given, Given(mask, groups)
        try:
            yield
        finally:
            self._thread.given = before

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

    def miss(self, why: str) -> None:
        """Note why the positions of the pass of this thread are not known."""
        self._thread.current = why if self.asks else None

    def end(self) -> None:
        """End the pass of this thread."""
        self._thread.current = _OUTSIDE

    def _read(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> PositionFlow | None:
        inputs = {**dict(zip(self._places, args, strict=False)), **kwargs}
        inputs |= {f"*{i}": x for i, x in enumerate(args[len(self._places) :])}
        given = self._given(args, kwargs, inputs)
        if not given:
            return None
        owned = {
            name: x for name, x in inputs.items() if all(x is not each for each in given.values())
        }
        tensors = tensors_of(owned)
        self._add_silent(given, tensors)
        placed: list[tuple[Tensor, Part]] = []
        roots: dict[Any, Tensor] = {}
        for name, found in given.items():
            covered = [x for owner, x in tensors if self._covers(name, owner)]
            key, root = self._root(name, cut(found, covered))
            roots[key] = root
            parts = [(x, Part(key, view)) for x in covered if (view := lay(root, x)) is not None]
            if not parts:
                shapes = ", ".join(str(tuple(x.shape)) for x in covered) or "none"
                raise FmstatsError(
                    f"{_describe(name)} of shape {tuple(found.shape)} fits no input of the model; "
                    f"the shapes of its inputs are: {shapes}"
                )
            placed += parts
        flow = PositionFlow(Numbers(roots, self._windows))
        for x, part in placed:
            flow.note(x, (*(flow.spread_of(x) or ()), part))
        return flow

    def _given(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], inputs: Mapping[str, Any]
    ) -> dict[str, Tensor]:
        """Return the masks by their names, and the groups."""
        own = self._thread.given
        found: dict[str, Any]
        if own is not None:
            found = {MASK: own.mask, GROUPS: own.groups}
        else:
            asked, groups = self._masks, self._groups
            found = (
                {MASK: asked(args, kwargs)}
                if callable(asked)
                else {name: inputs.get(name) for name in asked}
            )
            if groups is not None:
                found[GROUPS] = groups(args, kwargs) if callable(groups) else inputs.get(groups)
        given = {name: x for name, x in found.items() if x is not None}
        for name, x in given.items():
            if not isinstance(x, Tensor):
                raise FmstatsError(f"{_describe(name)} is a {type(x).__name__}: give a tensor")
            if not 1 <= x.dim() <= MOST_DIMS:
                raise FmstatsError(
                    f"{_describe(name)} is of shape {tuple(x.shape)}: give one of shape (N,), "
                    "(N, T) or (N, H, W)"
                )
        return given

    def _add_silent(self, given: dict[str, Tensor], tensors: Sequence[tuple[str, Tensor]]) -> None:
        """Add a mask under which all counts for inputs whose own, of several, was not given."""
        if callable(self._masks) or not any(name in self._masks for name in given):
            return
        for name in self._masks:
            if name not in given:
                inputs = (x for owner, x in tensors if self._covers(name, owner))
                first = next(inputs, None)
                if first is not None:
                    given[name] = first.new_ones(first.shape[0], dtype=torch.bool)

    def _covers(self, name: str, owner: str) -> bool:
        """Tell whether a mask of some name is of an input of some name."""
        if name in (GROUPS, MASK):
            return True
        if MASKS.get(name):
            return owner.startswith(MASKS[name])
        others = (begin for mask, begin in MASKS.items() if begin and mask in self._names)
        return not owner.startswith(tuple(others))

    def _root(self, name: str, found: Tensor) -> tuple[Any, Tensor]:
        """Return the key and the root of a mask or of groups."""
        numbered = not found.is_floating_point() and not found.is_complex()
        if name != GROUPS:
            if not numbered:
                raise FmstatsError(
                    f"{_describe(name)} is of {found.dtype}: give a bool tensor, or whole numbers "
                    "that are 0 where a position does not count"
                )
            return (MASK, name), (found != 0).contiguous()
        if not numbered or found.dtype == torch.bool:
            raise FmstatsError(f"the groups are of {found.dtype}: give whole numbers")
        if found.device.type == "cpu" and found.numel():
            largest = int(found.max())
            if largest >= self.most_groups:
                raise FmstatsError(
                    f"group {largest} is beyond max_groups={self.most_groups}: groups are numbered "
                    "from 0, and -1 leaves a position out"
                )
            self._seen = max(self._seen, largest + 1)
        within = (found >= 0) & (found < self.most_groups)
        numbers = torch.where(within, found + 1, torch.zeros_like(found))
        return GROUPS, numbers.to(torch.uint8).contiguous()


def _describe(name: str) -> str:
    if name == GROUPS:
        return "the tensor of groups"
    return "the mask" if name == MASK else f"the mask {name!r}"


def _arguments_of(model: nn.Module) -> tuple[list[str], set[str], bool]:
    """Return the names of what a model takes by place, of all, and whether it takes any others."""
    kinds = inspect.Parameter
    given = inspect.signature(unwrap(model).forward).parameters
    places = (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD)
    by_place = [name for name, each in given.items() if each.kind in places]
    by_name = [name for name, each in given.items() if each.kind == kinds.KEYWORD_ONLY]
    takes_any = any(each.kind == kinds.VAR_KEYWORD for each in given.values())
    return by_place, {*by_place, *by_name}, takes_any
