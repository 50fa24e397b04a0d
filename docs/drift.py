"""The tables of docs/drift.md: which changes of images or weights are told from chance.

    python docs/drift.py
    python docs/drift.py --shapes

MobileNetV2 over 18 photographs, as in `fmstats demo`. For every split of the images into halves,
one half, changed, is compared with the other, unchanged, which is its baseline and, in shards, its
calibration. Needs fmstats[demo] and the weights that `fmstats demo` asks for. `--shapes` measures
the images themselves, with histograms, under changes that keep the mean and the variance.
"""

from __future__ import annotations

import argparse
import copy
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import page_tables
import torch
from PIL import Image, ImageFilter
from torch import Tensor, nn

import fmstats
import fmstats.drift
from fmstats import Profile
from fmstats.demo.mobilenet import load_pretrained
from fmstats.demo.photographs import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    crop_at_random,
    find_photographs,
    open_photograph,
    preprocess,
)

PAGE = Path(__file__).parent / "drift.md"
CROPS = 17  # of each photograph, beside its centre: 324 images
SHARDS = 36  # of 9 images, drawn at random
SPLITS = 40
SEED = 2  # thresholds were chosen with seed 1
MEASURED = [nn.Identity, nn.Conv2d, nn.ReLU6, nn.Linear]  # the first is the input

_MEAN, _STD = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))


class WithInput(nn.Module):
    """A network whose input is a layer, too."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.input, self.network = nn.Identity(), network

    def forward(self, images: Tensor) -> Tensor:
        """As the network."""
        logits: Tensor = self.network(self.input(images))
        return logits


# Changes of an image: uint8 (3, 224, 224) to what the network gets.


def keep(pixels: Tensor) -> Tensor:
    """Normalised as in training."""
    return (pixels.float() / 255 - _MEAN) / _STD


def swap_colours(pixels: Tensor) -> Tensor:
    """BGR for RGB."""
    return keep(pixels.flip(0))


def forget_normalisation(pixels: Tensor) -> Tensor:
    """Values from 0 to 1."""
    return pixels.float() / 255


def blur(pixels: Tensor) -> Tensor:
    """By a Gaussian of 2 pixels."""
    return keep(_to_pixels(_to_image(pixels).filter(ImageFilter.GaussianBlur(2))))


def add_noise(pixels: Tensor) -> Tensor:
    """Gaussian, a tenth of the range of values."""
    draw = torch.Generator().manual_seed(int(pixels.sum()))
    noisy = pixels.float() + 25.5 * torch.randn(pixels.shape, generator=draw)
    return keep(noisy.round().clamp(0, 255))


def compress(pixels: Tensor) -> Tensor:
    """JPEG of quality 10."""
    file = io.BytesIO()
    _to_image(pixels).save(file, "JPEG", quality=10)
    return keep(_to_pixels(Image.open(file)))


def brighten(pixels: Tensor) -> Tensor:
    """By 30 %, cut off at white."""
    return keep((pixels.float() * 1.3).round().clamp(0, 255))


def _to_image(pixels: Tensor) -> Image.Image:
    return Image.fromarray(pixels.permute(1, 2, 0).numpy())


def _to_pixels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def squash(photograph: Image.Image) -> Image.Image:
    """To a square of 256 pixels, without filter: nearest neighbours."""
    return photograph.resize((256, 256), Image.Resampling.NEAREST)


def round_weights(network: nn.Module) -> nn.Module:
    """A copy with the weights of all Conv2d and Linear rounded to float8 e4m3, without scales."""
    rounded = copy.deepcopy(network)
    with torch.no_grad():
        for module in rounded.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.weight.copy_(module.weight.to(torch.float8_e4m3fn).float())
    return rounded


# Changes of an image that keep the mean and the variance of each of its colours.


def split(pixels: Tensor) -> Tensor:
    """Two levels: what is above the median, and the rest."""
    planes = keep(pixels)
    above = planes > planes.flatten(1).median(1).values[:, None, None]
    return _with_moments_of(planes, above.float())


def fatten(pixels: Tensor) -> Tensor:
    """Heavy tails: values in their order, distributed as by Laplace."""
    planes = keep(pixels)
    count = planes[0].numel()
    spread = torch.distributions.Laplace(0.0, 1.0).icdf((torch.arange(count) + 0.5) / count)
    return _with_moments_of(planes, spread[planes.flatten(1).argsort(1).argsort(1)])


def _with_moments_of(planes: Tensor, other: Tensor) -> Tensor:
    other = other.view_as(planes)
    (mean, std), (now, unit) = (
        (x.mean((1, 2), keepdim=True), x.std((1, 2), keepdim=True)) for x in (planes, other)
    )
    return mean + std * (other - now) / unit


SHAPES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "nothing: resamples": keep,
    "two levels for all values": split,
    "heavy tails, as of Laplace": fatten,
}
CHANGES: Mapping[str, Callable[[Tensor], Tensor]] = {
    "nothing: resamples": keep,
    "RGB and BGR swapped": swap_colours,
    "normalisation forgotten": forget_normalisation,
    "wrong resize: squashed to a square, nearest neighbours": keep,
    "Gaussian blur, 2 pixels": blur,
    "Gaussian noise, 10 % of the range": add_noise,
    "JPEG quality 10": compress,
    "brightness +30 %": brighten,
    "weights rounded to fp8 (e4m3)": keep,
}
NOTHING, RESIZE, FP8 = (list(CHANGES)[i] for i in (0, 3, 8))


def read_images(change: Callable[[Tensor], Tensor], resize: bool = False) -> list[Tensor]:
    """The images under a change, photograph by photograph."""
    images = []
    for path in find_photographs():
        photograph = open_photograph(path)
        if resize:
            photograph = squash(photograph)
        crops = [crop_at_random(photograph, f"{path.name} {i}") for i in range(CROPS)]
        for image in (preprocess(photograph), *crops):
            pixels = ((image * _STD + _MEAN) * 255).round().clamp(0, 255).to(torch.uint8)
            images.append(change(pixels))
    return images


def profile_shards(name: str, by_photograph: bool = False) -> list[fmstats.Profile]:
    """Profiles of parts of the images under a change: of 9 drawn at random, or of a photograph."""
    network = load_pretrained()
    network = WithInput(round_weights(network) if name == FP8 else network).eval()
    images = read_images(CHANGES[name], name == RESIZE)
    if by_photograph:
        parts = np.split(np.arange(len(images)), len(images) // (CROPS + 1))
    else:
        parts = draw_parts(len(images))
    return [
        fmstats.profile(
            network, [torch.stack([images[i] for i in part])], include=MEASURED, progress=False
        )
        for part in parts
    ]


def draw_parts(images: int) -> list[np.ndarray]:
    """The numbers of the images of each shard, at random."""
    return np.split(np.random.default_rng(0).permutation(images), SHARDS)


def profile_inputs(change: Callable[[Tensor], Tensor], measure: str | None) -> list[Profile]:
    """Profiles of the images themselves under a change, in shards."""
    images = read_images(change)
    batches = [torch.stack([images[i] for i in part]) for part in draw_parts(len(images))]
    options = {"batch_dim": 0, "measure": measure, "backend": "torch", "progress": False}
    return [fmstats.profile(nn.Identity(), [x], **options) for x in batches]


def split_halves(shards: int, splits: int, seed: int) -> Iterator[tuple[list[int], list[int]]]:
    """Random halves of so many shards."""
    draw = np.random.default_rng(seed)
    for _ in range(splits):
        order = draw.permutation(shards).tolist()
        yield order[: shards // 2], order[shards // 2 :]


def merge_some(shards: Sequence[fmstats.Profile], chosen: Sequence[int]) -> fmstats.Profile:
    """The profile of the chosen shards."""
    first, *rest = (shards[i] for i in chosen)
    return first.merge(*rest)


def compare_halves(
    changed: Sequence[fmstats.Profile],
    clean: Sequence[fmstats.Profile],
    splits: int,
    seed: int,
) -> list[tuple[fmstats.drift.Comparison, fmstats.drift.Comparison]]:
    """Comparisons of each split, with calibration and without."""
    found = []
    for questioned, trusted in split_halves(len(clean), splits, seed):
        now, baseline = merge_some(changed, questioned), merge_some(clean, trusted)
        calibration = [clean[i] for i in trusted]
        found.append((now.compare(baseline, calibration=calibration), now.compare(baseline)))
    return found


def make_table(splits: int, seed: int, by_photograph: bool) -> str:
    """A row per change in markdown."""
    lines = [
        "| half of the images, against the other half | score: median (lowest to highest) | "
        "drift said | without calibration | drift said |",
        "|---|---:|---:|---:|---:|",
    ]
    clean = profile_shards(NOTHING, by_photograph)
    for name in CHANGES:
        changed = clean if name == NOTHING else profile_shards(name, by_photograph)
        cells: list[str] = []
        for comparisons in zip(*compare_halves(changed, clean, splits, seed), strict=True):
            cells += describe_scores(comparisons)
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def make_shapes_table(splits: int, seed: int) -> str:
    """A row per change of shape in markdown, by moments alone and with histograms."""
    lines = [
        "| half of the images, against the other half | moments: median (lowest to highest) | "
        "drift said | with histograms | drift said | W1 | PSI | JS |",
        "|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    clean = {measure: profile_inputs(keep, measure) for measure in (None, "histogram")}
    for name, change in SHAPES.items():
        cells: list[str] = []
        for measure, trusted in clean.items():
            changed = trusted if change is keep else profile_inputs(change, measure)
            found = [calibrated for calibrated, _ in compare_halves(changed, trusted, splits, seed)]
            cells += describe_scores(found)
        rows = [comparison.to_dict()["layers"][0] for comparison in found]
        cells += [
            f"{np.median([row[e] for row in rows]):.3g}" for e in ("wasserstein", "psi", "js")
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def describe_scores(comparisons: Sequence[fmstats.drift.Comparison]) -> list[str]:
    """Two cells: the scores, and how often it was called drift."""
    scores = [comparison.score for comparison in comparisons]
    return [
        f"{np.median(scores):.2f} ({min(scores):.2f} to {max(scores):.2f})",
        f"{sum(comparison.drift for comparison in comparisons)} of {len(scores)}",
    ]


def main() -> None:
    """Print a table; without other options than --shapes it goes into the page."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument(
        "--by-photograph", action="store_true", help="halves of photographs, not of their crops"
    )
    parser.add_argument(
        "--shapes", action="store_true", help="changes of the images that moments miss"
    )
    parser.add_argument("--splits", type=int, default=SPLITS)
    parser.add_argument("--seed", type=int, default=SEED)
    options = parser.parse_args()
    if options.shapes:
        name, table = "shapes", make_shapes_table(options.splits, options.seed)
    else:
        name = "random halves"
        table = make_table(options.splits, options.seed, options.by_photograph)
    if (options.splits, options.seed, options.by_photograph) == (SPLITS, SEED, False):
        page = page_tables.renew(PAGE.read_text(encoding="utf-8"), name, table)
        PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
