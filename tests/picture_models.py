"""Models whose weights and images are formulas, and what tests ask of a drawn figure."""

from __future__ import annotations

from itertools import combinations

import torch
from torch import nn


def wave(*shape: int, step: float = 0.7) -> torch.Tensor:
    """Numbers in -1..1 by a formula, the same on every machine."""
    count = int(torch.tensor(shape).prod())
    return torch.sin(torch.arange(count, dtype=torch.float64) * step).float().reshape(shape)


class Given(nn.Conv2d):
    """A layer of convolutional type, hence with its channels before two dims, of a given output."""

    def __init__(self, output: torch.Tensor) -> None:
        super().__init__(1, 1, 1)
        self.output = output

    def forward(self, _x: object) -> torch.Tensor:
        return self.output


class Tokens(nn.Linear):
    """As `Given`, with its channels last."""

    def __init__(self, output: torch.Tensor) -> None:
        super().__init__(1, output.shape[-1])
        self.output = output

    def forward(self, _x: object) -> torch.Tensor:
        return self.output


def made_stages() -> nn.Sequential:
    """Three resolutions and a head, for images of 16 x 16; ReLUs work in place."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 4), (4, 8), (8, 12)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2)]
    model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(12 * 2 * 2, 5))
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters(), start=1):
            parameter.copy_(wave(*parameter.shape, step=0.7 + number) / 2)
    return model.eval()


def image(size: int = 16) -> torch.Tensor:
    """(3, size, size) in 0..1: a disc over a slope."""
    y, x = torch.meshgrid(torch.linspace(-1, 1, size), torch.linspace(-1, 1, size), indexing="ij")
    disc = (x**2 + y**2 < 0.4).float()
    return torch.stack([disc, (x + 1) / 2, (y + 1) / 2])


def draw(figure) -> object:
    """Draw a figure, which it must stand without warnings, and return its renderer."""
    figure.canvas.draw()
    return figure.canvas.get_renderer()


def texts_of(figure) -> list:
    """Every text that is seen: figure's, titles, labels, ticks and keys."""
    from matplotlib.text import Text

    shown = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    # An axis keeps Text objects for ticks that lie outside of its limits, which it never draws.
    drawn = []
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            ticks = [*axis.get_major_ticks(), *axis.get_minor_ticks()]
            now = set(map(id, axis._update_ticks()))
            drawn += [
                t for tick in ticks if id(tick) not in now for t in (tick.label1, tick.label2)
            ]
    hidden = set(map(id, drawn))
    return [t for t in shown if id(t) not in hidden]


def check_texts(figure) -> None:
    """No two texts overlap, and all are inside the figure."""
    renderer = draw(figure)
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in texts_of(figure)]
    for text, box in boxes:
        inside = box.x0 >= 0 and box.y0 >= 0
        inside &= box.x1 <= figure.bbox.x1 and box.y1 <= figure.bbox.y1
        assert inside, f"{text!r} leaves the figure: {box} in {figure.bbox}"
    for (one, a), (other, b) in combinations(boxes, 2):
        apart = a.x1 <= b.x0 or b.x1 <= a.x0 or a.y1 <= b.y0 or b.y1 <= a.y0
        assert apart, f"{one!r} overlaps {other!r}: {a} {b}"


def check_texts_beside_maps(figure) -> None:
    """No title or note lies on a map; after `check_texts`, which draws."""
    renderer = figure.canvas.get_renderer()
    maps = [axes.get_window_extent(renderer) for axes in figure.axes if axes.images]
    for text in texts_of(figure):
        box = text.get_window_extent(renderer)
        for area in maps:
            apart = box.x1 <= area.x0 or area.x1 <= box.x0 or box.y1 <= area.y0 or area.y1 <= box.y0
            assert apart, f"{text.get_text()!r} lies on a map"


def maps_of(figure) -> dict[int, object]:
    """By channel, the array that its axes show; what is not finite is masked."""
    found = {}
    for axes in figure.axes:
        title = axes.get_title()
        if title.startswith("ch "):
            found[int(title.split()[1])] = axes.images[0].get_array()
    return found


def hooks_of(model: nn.Module) -> int:
    """How many hooks there are on a model."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
