"""Define the options that say how the pixels of images are normalised.

None of them has a default, so that they can be refused, once given, for data without pixels.
"""

from __future__ import annotations

import math
from typing import Annotated

import typer

from fmstats.errors import FmstatsError
from fmstats.sources import DataSource
from fmstats.sources.images import IMAGENET_MEAN, IMAGENET_STD, NO_MEAN, NO_STD

MeanOption = Annotated[
    str | None,
    typer.Option(
        metavar="R,G,B",
        help="Mean to subtract from pixels in [0, 1] of images, or one number for all three "
        "colours; give --std, too. "
        "Default: ImageNet's, " + ",".join(map(str, IMAGENET_MEAN)) + ".",
    ),
]
StdOption = Annotated[
    str | None,
    typer.Option(
        metavar="R,G,B",
        help="Standard deviation to divide by, after --mean. Default: ImageNet's, "
        + ",".join(map(str, IMAGENET_STD))
        + ".",
    ),
]
NoNormalizeOption = Annotated[
    bool,
    typer.Option(
        "--no-normalize", help="Leave the pixels of images in [0, 1], without mean and std."
    ),
]

Channels = tuple[float, ...]


def choose_normalisation(
    mean: str | None, std: str | None, no_normalize: bool
) -> tuple[Channels, Channels] | None:
    """Return the mean and std that the options ask for; None if none of them is given.

    Raises:
        FmstatsError: they exclude each other, one is missing, or a text is not one number or three.
    """
    if no_normalize:
        if mean is not None or std is not None:
            raise FmstatsError("--no-normalize excludes --mean and --std")
        return NO_MEAN, NO_STD
    if mean is None and std is None:
        return None
    # A mean of one's own with ImageNet's std would be nobody's normalisation.
    if mean is None or std is None:
        given, missing = ("--std", "--mean") if mean is None else ("--mean", "--std")
        raise FmstatsError(f"{given} is given without {missing}: give both, or neither")
    means, stds = _read_channels("--mean", mean), _read_channels("--std", std)
    if min(stds) <= 0:
        raise FmstatsError(f"--std {std!r}: give numbers above 0")
    return means, stds


def refuse_without_images(source: DataSource, data: str) -> None:
    """Refuse data that is run as it is, where the options ask for a normalisation.

    Raises:
        FmstatsError: `source` has no images.
    """
    if source.inputs is None:
        raise FmstatsError(
            f"--mean, --std and --no-normalize are for images, and --data {data!r} is neither a "
            "folder of images nor an image: its numbers go into the model as they are"
        )


def _read_channels(option: str, text: str) -> Channels:
    try:
        values = tuple(map(float, text.split(",")))
    except ValueError:
        values = ()
    finite = all(map(math.isfinite, values))
    if len(values) not in (1, 3) or not finite:
        raise FmstatsError(
            f"{option} {text!r}: give three finite numbers, such as 0.5,0.5,0.5, or one for all"
        )
    return values if len(values) == 3 else values * 3
