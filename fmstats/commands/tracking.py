"""Define the options of commands that ask for what `track` asks for, and how they are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from enum import Enum
from typing import Annotated, Any, TypeVar

import typer

from fmstats.commands.app import BackendOption
from fmstats.commands.completion import complete_masks
from fmstats.errors import FmstatsError
from fmstats.models.saturation import Bounds
from fmstats.tracking.options import describe_option

_T = TypeVar("_T")


class Of(str, Enum):
    """Names the tensors of a layer that can be measured."""

    output = "output"
    input = "input"
    grad_output = "grad_output"


class OnError(str, Enum):
    """Says what to do with a layer that cannot be measured as asked."""

    fatal = "raise"
    warn = "warn"


class MaskMismatch(str, Enum):
    """Says what to do with tensors that the mask does not fit."""

    leave_out = "skip"
    count_whole = "count"
    error = "raise"


class Measure(str, Enum):
    """Names what `--measure` can add."""

    absolute = "abs"
    kurtosis = "kurtosis"
    histogram = "histogram"


class Scope(str, Enum):
    """Says what has a histogram of its own."""

    layer = "layer"
    channel = "channel"


def _option(name: str, *declarations: str, many: bool = False, **settings: Any) -> Any:
    """Make the typer option of an option of `track`, with the description declared there."""
    help_text = describe_option(name) + (" May be repeated." if many else "")
    return typer.Option(*declarations, help=help_text, **settings)


@dataclass(frozen=True)
class TrackingOptions:
    """Holds what a command line asks of `track`, named and in the order of `TrackOptions`."""

    include: Annotated[list[str] | None, _option("include", many=True, metavar="GLOB")] = None
    exclude: Annotated[list[str] | None, _option("exclude", many=True, metavar="GLOB")] = None
    of: Annotated[Of, _option("of")] = Of.output
    every: Annotated[int, _option("every", metavar="N", min=1)] = 1
    budget: Annotated[float | None, _option("budget", metavar="SHARE")] = None
    channel_dim: Annotated[str, _option("channel_dim", metavar="DIM|GLOB=DIM,...")] = "auto"
    zero_tol: Annotated[float, _option("zero_tol", metavar="X", min=0.0)] = 0.0
    backend: BackendOption = "auto"
    per_call: Annotated[bool, _option("per_call", "--per-call")] = False
    on_error: Annotated[OnError, _option("on_error")] = OnError.warn
    saturation: Annotated[
        list[str] | None, _option("saturation", many=True, metavar="GLOB=LOW,HIGH")
    ] = None
    functional: Annotated[str, _option("functional", metavar="auto|on|off|NAME,...")] = "auto"
    mask: Annotated[
        str | None,
        _option("mask", metavar="auto|ARG|GLOB=ARG,...", autocompletion=complete_masks),
    ] = None
    mask_mismatch: Annotated[MaskMismatch, _option("mask_mismatch")] = MaskMismatch.leave_out
    groups: Annotated[str | None, _option("groups", metavar="ARG")] = None
    group_names: Annotated[
        list[str] | None, _option("group_names", "--group-name", many=True, metavar="NAME")
    ] = None
    max_groups: Annotated[int, _option("max_groups", metavar="N", min=1)] = 64
    measure: Annotated[list[Measure] | None, _option("measure", many=True)] = None
    histogram: Annotated[Scope, _option("histogram")] = Scope.layer
    resolution: Annotated[int, _option("resolution", metavar="N", min=0, max=6)] = 4

    def arguments(self) -> dict[str, Any]:
        """Return the arguments of the same names for `fmstats.profile`.

        Raises:
            FmstatsError: a text is not understood.
        """
        given = {each.name: _to_plain(getattr(self, each.name)) for each in fields(self)}
        return given | {
            "channel_dim": read_channel_dim(self.channel_dim),
            "saturation": read_saturation(self.saturation or ()),
            "functional": read_functional(self.functional),
            "mask": None if self.mask is None else read_mask(self.mask),
        }


def _to_plain(value: Any) -> Any:
    """Return what typer has read as Python takes it: no enums, and None for an empty list."""
    if isinstance(value, list):
        return [_to_plain(item) for item in value] or None
    return value.value if isinstance(value, Enum) else value


def read_channel_dim(text: str) -> int | str | dict[str, int]:
    """Return the dim that `--channel-dim` asks for, "auto", or dims by glob.

    Raises:
        FmstatsError: it is none of these.
    """
    if text == "auto":
        return text
    try:
        return _read_pairs(text, int) if "=" in text else int(text)
    except ValueError as error:
        raise FmstatsError(
            f"--channel-dim {text!r} is neither 'auto' nor a number, nor such as "
            "'blocks.*=2,head=-1'"
        ) from error


def read_mask(text: str) -> str | dict[str, str]:
    """Return the mask that `--mask` asks for, or masks by glob.

    Raises:
        FmstatsError: a glob or an argument is empty.
    """
    try:
        return _read_pairs(text, str) if "=" in text else text
    except ValueError as error:
        raise FmstatsError(
            f"--mask {text!r}: give auto, the name of an argument, or such as "
            "'encoder.*=src_mask,decoder.*=tgt_mask'"
        ) from error


def read_saturation(texts: Sequence[str]) -> dict[str, Bounds] | None:
    """Return the bounds by glob that all `--saturation` together ask for; None without any.

    Raises:
        FmstatsError: a text is not of the form `GLOB=LOW,HIGH`.
    """
    bounds: dict[str, Bounds] = {}
    for text in texts:
        glob, _, pair = text.rpartition("=")
        low, comma, high = pair.partition(",")
        try:
            bounds[glob] = (float(low) if low else None, float(high) if high else None)
        except ValueError:
            comma = ""
        if not (glob and comma):
            raise FmstatsError(
                f"--saturation {text!r}: give GLOB=LOW,HIGH, such as '*.act=-1,1', or "
                "'*.act=,6' where there is no lower bound"
            )
    return bounds or None


def read_functional(text: str) -> bool | str | list[str]:
    """Return which functional operations `--functional` asks for, as `functional=` takes it.

    Raises:
        FmstatsError: a name is empty.
    """
    if text in ("auto", "on", "off"):
        return text if text == "auto" else text == "on"
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise FmstatsError(
            f"--functional {text!r}: choose auto, on, off, or names of operations or of rows, "
            "separated by commas"
        )
    return names


def _read_pairs(text: str, read: Callable[[str], _T]) -> dict[str, _T]:
    """Return what each glob of `GLOB=VALUE,...` has.

    Raises:
        ValueError: a glob or a value is empty, or a value cannot be read.
    """
    pairs = [part.rpartition("=") for part in text.split(",")]
    if not all(glob.strip() and value.strip() for glob, _, value in pairs):
        raise ValueError(text)
    return {glob.strip(): read(value.strip()) for glob, _, value in pairs}
