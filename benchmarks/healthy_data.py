"""Load small real data that packages ship, and train on it, for bench_diagnose.py.

Handwritten digits and photographs come with scikit-learn and scikit-image, English text is that of
scikit-learn's descriptions of data sets. All of it is the same in every run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from importlib.resources import files

import torch
from torch import Tensor, nn

from fmstats.demo.photographs import find_photographs, open_photograph

Data = tuple[Tensor, Tensor]
Loss = Callable[[nn.Module, Tensor, Tensor], Tensor]


@cache
def load_digits() -> Data:
    """Load 1,797 images (N, 1, 8, 8), normalised, and their classes."""
    from sklearn.datasets import load_digits as load

    found = load()
    pixels = torch.from_numpy(found.images).float().unsqueeze(1)
    return (pixels - pixels.mean()) / pixels.std(), torch.from_numpy(found.target).long()


@cache
def load_patches(side: int = 32, each: int = 60) -> Data:
    """Load normalised patches (N, 3, side, side) of 18 photographs, and the photograph of each."""
    draw = torch.Generator().manual_seed(0)
    patches, classes = [], []
    for number, path in enumerate(find_photographs()):
        image = open_photograph(path)
        image.thumbnail((192, 192))
        pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
        photograph = pixels.view(image.height, image.width, 3).permute(2, 0, 1).float() / 255
        for _ in range(each):
            top = int(torch.randint(image.height - side, (1,), generator=draw))
            left = int(torch.randint(image.width - side, (1,), generator=draw))
            patches.append(photograph[:, top : top + side, left : left + side])
            classes.append(number)
    x = torch.stack(patches)
    x = (x - x.mean((0, 2, 3), keepdim=True)) / x.std((0, 2, 3), keepdim=True)
    order = torch.randperm(len(x), generator=draw)
    return x[order], torch.tensor(classes)[order]


@cache
def load_text(length: int = 32, vocabulary: int = 64) -> Data:
    """Load windows (N, length) of English text as letter numbers, and the letters that follow."""
    folder = files("sklearn.datasets.descr")
    pages = sorted(page.name for page in folder.iterdir() if page.name.endswith(".rst"))
    text = "".join(folder.joinpath(page).read_text(encoding="utf-8") for page in pages).lower()
    common = sorted(sorted(set(text)), key=lambda letter: -text.count(letter))[: vocabulary - 2]
    number = {letter: 2 + i for i, letter in enumerate(common)}  # 0 is padding, 1 is a mask
    letters = torch.tensor([number[letter] for letter in text if letter in number])
    windows = letters.unfold(0, length + 1, length)
    windows = windows[torch.randperm(len(windows), generator=torch.Generator().manual_seed(0))]
    return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()


def classify(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the cross entropy of logits with classes in the last dim, or of (N, classes)."""
    logits = model(x)
    return nn.functional.cross_entropy(logits.flatten(0, -2), y.flatten())


def restore(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the squared error of an image against the one without the added noise."""
    noisy = x + 0.3 * torch.randn(x.shape)
    return nn.functional.mse_loss(model(noisy), x)


def fit(
    model: nn.Module, data: Data, loss: Loss = classify, *, steps: int = 150, rate: float = 2e-3
) -> nn.Module:
    """Train for some steps of 64 samples with Adam; leave the model in eval mode."""
    optimizer = torch.optim.Adam(model.parameters(), rate)
    model.train()
    for x, y in _draw(data, steps):
        optimizer.zero_grad()
        loss(model, x, y).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return model.eval()


def _draw(data: Data, steps: int) -> Iterator[Data]:
    draw = torch.Generator().manual_seed(0)
    for _ in range(steps):
        chosen = torch.randint(len(data[0]), (64,), generator=draw)
        yield data[0][chosen], data[1][chosen]
