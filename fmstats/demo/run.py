"""Profile a real network on real photographs and say what is wrong in it.

The network first classifies two pictures whose answer is known: statistics of a network that
does not see would mean nothing. The forward time is compared with an untracked copy, batch by
batch in turn, never with a figure measured elsewhere.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

import fmstats
from fmstats.demo.mobilenet import load_pretrained
from fmstats.demo.packages import require
from fmstats.demo.photographs import (
    find_photographs,
    iterate_batches,
    open_photograph,
    preprocess,
)
from fmstats.errors import FmstatsError
from fmstats.profiles.summary import choose_layers

_DEPTH = 2  # parts of the names of the blocks that are shown

if TYPE_CHECKING:
    from fmstats import ChannelStats, Profile

# File name: (ImageNet class, its name). Both pictures are plain instances of their class.
KNOWN_ANSWERS = {"chelsea.png": (285, "Egyptian cat"), "coffee.png": (967, "espresso")}


def run_demo(
    console_print: Callable[[str], None] = print,
    *,
    crops: int = 8,
    batch_size: int = 16,
    backend: str = "auto",
) -> Profile:
    """Track every leaf module of MobileNetV2 over the photographs and print what was seen.

    Args:
        console_print: receives each piece of the output, a str of one or more lines.
        crops: random crops of each photograph beside its centre crop; 0 for none.
        batch_size: images per forward pass.
        backend: what computes the statistics, see `fmstats.track`; the images lie on the CPU.

    Returns:
        The profile over all images: one entry per leaf module.

    Raises:
        FmstatsError: a package is missing, an argument is out of range, or the network does not
            recognise the two pictures whose answer is known.
    """
    if crops < 0 or batch_size < 1:
        raise FmstatsError(
            f"crops={crops}, batch_size={batch_size}: crops must be at least 0, batch_size at "
            f"least 1"
        )
    require()
    paths = find_photographs()
    model = load_pretrained()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    console_print(f"MobileNetV2 with its ImageNet weights, {parameters:,} parameters. Does it see?")
    for line in check_answers(model, paths):
        console_print(f"  {line}")
    images = len(paths) * (1 + crops)
    console_print(
        f"\nTracking every leaf module over {images} images: {len(paths)} photographs, each as its "
        f"centre crop\nand {crops} random crops, 224 x 224 ..."
    )
    profile, ratios = _profile_beside_twin(model, paths, crops, batch_size, backend)
    console_print(f"\nBlock by block\n{choose_layers(profile, depth=_DEPTH)}")
    console_print(f"\nFindings\n{profile.diagnose()}")
    console_print("\nIn short")
    for line in summarise_relu6(model, profile, images):
        console_print(f"  {line}")
    seen = sum(int(stats.count.sum()) for stats in profile.values())
    console_print(f"  {seen:,} activations were measured in {len(profile)} layers")
    console_print(f"  {describe_ratios(ratios)}")
    return profile


def check_answers(model: nn.Module, paths: Sequence[Path]) -> list[str]:
    """Classify the pictures of KNOWN_ANSWERS and return a line of text on each.

    A line reads "chelsea.png   Egyptian cat (class 285), 71.7 %".

    Raises:
        FmstatsError: the first choice is another class.
    """
    lines = []
    for name, (expected, label) in KNOWN_ANSWERS.items():
        path = next(path for path in paths if path.name == name)
        image = preprocess(open_photograph(path))
        with torch.inference_mode():
            probabilities = model(image[None]).softmax(dim=1)[0]
        choice = int(probabilities.argmax())
        percent = 100 * float(probabilities[choice])
        if choice != expected:
            raise FmstatsError(
                f"{name}: the first choice is class {choice} ({percent:.1f} %), it must be class "
                f"{expected} ({label}): network, weights and preprocessing do not fit together"
            )
        lines.append(f"{name:<13} {label} (class {choice}), {percent:.1f} %")
    return lines


def summarise_relu6(
    model: nn.Module, profile: Mapping[str, ChannelStats], images: int
) -> list[str]:
    """Say in plain words what happens at the network's ReLU6 layers."""
    layers = {
        name: profile[name]
        for name, module in model.named_modules()
        if isinstance(module, nn.ReLU6)
    }
    channels = sum(len(stats.count) for stats in layers.values())
    silent = [int(stats.never_active.sum()) for stats in layers.values()]
    dead = sum(int(stats.dead.sum()) for stats in layers.values())
    elements = sum(int(stats.count.sum()) for stats in layers.values())
    zeros = sum(int(stats.zeros.sum()) for stats in layers.values())
    share_at_six = {
        name: int(stats.sat_high.sum()) / int(stats.count.sum()) for name, stats in layers.items()
    }
    worst = max(share_at_six, key=lambda name: share_at_six[name])
    return [
        f"{sum(silent)} of {channels:,} ReLU6 channels, in {sum(map(bool, silent))} of "
        f"{len(layers)} ReLU6 layers, were zero everywhere in all {images} images",
        f"{dead} channels, these included, were zero in more than 99 % of their elements",
        f"{100 * zeros / elements:.0f} % of all ReLU6 output was zero",
        f"the upper bound 6 was reached most often in {worst}: in "
        f"{100 * share_at_six[worst]:.2f} % of its elements",
    ]


def describe_ratios(ratios: Sequence[float]) -> str:
    """Say how much longer a tracked forward pass takes, given the ratio of each timed batch."""
    if not ratios:
        return "forward time with and without tracking: too few full batches to compare"
    return (
        f"a forward pass took {statistics.median(ratios):.2f} x as long with tracking as without "
        f"(median of {len(ratios)} batches,\n  {min(ratios):.2f} to {max(ratios):.2f})"
    )


def _profile_beside_twin(
    model: nn.Module, paths: Sequence[Path], crops: int, batch_size: int, backend: str
) -> tuple[Profile, list[float]]:
    untracked = copy.deepcopy(model)
    ratios = []
    with torch.inference_mode(), fmstats.track(model, backend=backend) as tracker:
        for number, batch in enumerate(iterate_batches(paths, crops=crops, batch_size=batch_size)):
            # Whoever runs second finds the batch in cache, so the two take turns.
            order = (model, untracked) if number % 2 else (untracked, model)
            seconds = {network: _time_forward(network, batch) for network in order}
            # The first batch pays for warming up; a short one has another ratio.
            if number > 0 and len(batch) == batch_size:
                ratios.append(seconds[model] / seconds[untracked])
        return tracker.stats(), ratios


def _time_forward(network: nn.Module, batch: Tensor) -> float:
    started = time.perf_counter()
    network(batch)
    return time.perf_counter() - started
