"""These functions read and check masks and groups as users give them, and number positions."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from fmstats.errors import FmstatsError
from fmstats.operations.spreads import GROUPS
from fmstats.tracking.arguments import Arguments, GivenCall, Reader

MASK = "(mask)"  # the name of a mask that has none of its own
_INVERTED = "key_padding_mask"
_MOST_DIMS = 3


def read_given(
    asked: Mapping[str, str | Reader], arguments: Arguments, call: GivenCall
) -> dict[str, Tensor]:
    """Return what is asked of the inputs of a pass, by its name, where it is given.

    Args:
        asked: names of inputs, and functions of all of them.
        arguments: of the model.
        call: of it.

    Raises:
        FmstatsError: a function raised an error, nobody gave an argument, or as `tensors_given`.
    """
    found: dict[str, object] = {}
    for name, each in asked.items():
        try:
            found[name] = arguments.read(each, call)
        except FmstatsError:
            raise
        except Exception as error:  # the user's pass goes on, unless asked otherwise
            raise FmstatsError(
                f"the function for {describe_given(name)} raised {type(error).__name__}: {error}"
            ) from error
    return tensors_given(found)


def tensors_given(found: Mapping[str, object]) -> dict[str, Tensor]:
    """Return the masks and groups that were given, by their names.

    Raises:
        FmstatsError: one is no dense tensor, or has a shape that none has.
    """
    given = {}
    for name, x in found.items():
        if x is None:
            continue
        if not isinstance(x, Tensor):
            raise FmstatsError(f"{describe_given(name)} is a {type(x).__name__}: give a tensor")
        if x.is_nested or x.layout != torch.strided:
            raise FmstatsError(f"{describe_given(name)} is sparse or nested: give a dense tensor")
        if not 1 <= x.dim() <= _MOST_DIMS:
            raise FmstatsError(
                f"{describe_given(name)} is of shape {tuple(x.shape)}: give one of shape (N,), "
                "(N, T) or (N, H, W)"
            )
        given[name] = x
    return given


def describe_given(name: str) -> str:
    """Tell what was given under a name among the masks of a pass."""
    if name == GROUPS:
        return "the tensor of groups"
    return "the mask" if name == MASK else f"the mask {name!r}"


def number_mask(name: str, mask: Tensor) -> Tensor:
    """Return a mask as the numbers of positions: bool, contiguous.

    Where its name ends in "key_padding_mask", as of `torch.nn.Transformer`, it is True at what does
    not count; any other mask at what does.

    Raises:
        FmstatsError: it is of floating-point numbers, which may be added to something.
    """
    if mask.is_floating_point() or mask.is_complex():
        raise FmstatsError(
            f"{describe_given(name)} is of {mask.dtype}: give a bool tensor, or whole numbers that "
            "are 0 where a position does not count"
        )
    padding = name.endswith(_INVERTED)
    return (mask == 0 if padding else mask != 0).contiguous()


def check_name(name: str) -> None:
    """Refuse the name of a mask of which nobody can tell whether it is True at padding.

    Raises:
        FmstatsError: it is "padding_mask" or the like.
    """
    if name.endswith("padding_mask") and not name.endswith(_INVERTED):
        raise FmstatsError(
            f"mask={name!r}: some libraries have True where there is padding, others 1 where there "
            f"is none; say which: mask=lambda args, kwargs: kwargs[{name!r}], or ~kwargs[{name!r}]"
        )
