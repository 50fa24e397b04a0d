"""Run `fmstats visualize`: draw a layer's feature maps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast

import typer

from fmstats.commands.app import (
    ImageSizeOption,
    ModelArgument,
    ResizeOption,
    WeightsOption,
    app,
    keep_lines,
    load_network,
)
from fmstats.errors import FmstatsError
from fmstats.output.terminal import print_blocks
from fmstats.pictures import overlay as draw_overlay
from fmstats.pictures import visualize as draw_grid
from fmstats.pictures import visualize_hierarchy
from fmstats.pictures.canvas import find_colours, require_matplotlib
from fmstats.pictures.files import check_picture, write_figure
from fmstats.pictures.maps import Order, Scale
from fmstats.sources.images import IMAGENET_MEAN, IMAGENET_STD, ImageTransform, usual_resize

_EXAMPLES = keep_lines(
    "Examples:",
    "fmstats visualize net.py:make_net --image cat.jpg --layer features.0 -o maps.png",
    "fmstats visualize torchvision:resnet50 --weights r50.pth --image cat.jpg \\",
    "    --layer layer1.0 --max-channels 64 --order variance --scale channel -o maps.pdf",
    "fmstats visualize net.py:make_net --image cat.jpg --layer features.18 --overlay 7 -o 7.png",
    "fmstats visualize net.py:make_net --image cat.jpg --hierarchy -o stages.svg",
)


@app.command(epilog=_EXAMPLES)
def visualize(
    model: ModelArgument,
    image: Annotated[Path, typer.Option(metavar="FILE", help="The picture to run the model on.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="Write .png, .pdf or .svg.")
    ],
    layer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="The layer, e.g. 'features.0'; repeat it for --hierarchy."
        ),
    ] = None,
    weights: WeightsOption = None,
    max_channels: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            help="Draw at most N channels; default: 16, with --hierarchy 6 per layer.",
        ),
    ] = None,
    order: Annotated[
        str,
        typer.Option(help="index | variance | mean | sparsity; the last three: largest first."),
    ] = "index",
    scale: Annotated[
        str,
        typer.Option(
            help="Colour scale: shared (one for all channels) or channel (one per channel)."
        ),
    ] = "shared",
    cmap: Annotated[str, typer.Option(help="Name of a matplotlib colour map.")] = "viridis",
    hierarchy: Annotated[
        bool,
        typer.Option("--hierarchy", help="Draw one row per stage, or per --layer given."),
    ] = False,
    overlay: Annotated[
        int | None,
        typer.Option(metavar="CHANNEL", min=0, help="Draw only this channel, over the picture."),
    ] = None,
    image_size: ImageSizeOption = 224,
    resize: ResizeOption = None,
) -> None:
    """Draw the feature maps that a picture gives."""
    check_picture(out)  # Before the run: loading a model takes its time.
    require_matplotlib("fmstats visualize")
    find_colours(cmap)
    layers = layer or []
    if hierarchy and overlay is not None:
        raise FmstatsError("--hierarchy and --overlay exclude each other: give one of them")
    if not hierarchy and len(layers) != 1:
        raise FmstatsError(
            f"--layer was given {len(layers)} times: give one layer, or --hierarchy for several"
        )
    size = usual_resize(image_size) if resize is None else resize
    transform = ImageTransform(image_size, size, IMAGENET_MEAN, IMAGENET_STD)
    network = load_network(model, weights)
    if hierarchy:
        figure = visualize_hierarchy(
            network,
            image,
            layers or None,
            channels=max_channels or 6,
            cmap=cmap,
            transform=transform,
        )
    elif overlay is not None:
        figure = draw_overlay(network, image, layers[0], overlay, cmap=cmap, transform=transform)
    else:
        figure = draw_grid(
            network,
            image,
            layers[0],
            max_channels or 16,
            order=cast(Order, order),
            scale=cast(Scale, scale),
            cmap=cmap,
            transform=transform,
        )
    write_figure(figure, out)
    print_blocks(f"Written to {out}")
