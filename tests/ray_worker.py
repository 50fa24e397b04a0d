"""Runs on a local Ray, in a process of its own: see test_ray.py."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import numpy as np
import ray
import ray.data
import torch
from torch import nn

import fmstats
from fmstats.integrations.ray import profile

ROWS, BLOCKS, SIZE = 60, 6, 5


class Dies(nn.Module):
    """Kills its process in the middle of a block, once."""

    def __init__(self, flag: Path) -> None:
        super().__init__()
        self.flag, self.passes = str(flag), 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        if self.passes == 4 and not os.path.exists(self.flag):
            Path(self.flag).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return x + 0


def data() -> np.ndarray:
    """A row a sample, of whole numbers: their products are the same in whatever order."""
    return np.random.default_rng(2).integers(-9, 9, (ROWS, 6)).astype(np.float32)


def net(first: nn.Module) -> nn.Module:
    """Layers of which one is given, with whole weights from a seed."""
    torch.manual_seed(0)
    linear = nn.Linear(6, 4)
    with torch.no_grad():
        for weight in linear.parameters():
            weight.copy_((10 * weight).round())
    return nn.Sequential(first, linear, nn.ReLU())


def main(folder: Path) -> None:
    """Save the profiles, print the errors."""
    torch.set_num_threads(1)
    paths = os.pathsep.join(filter(None, sys.path))
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": paths}},
    )
    want = fmstats.profile(net(nn.Identity()), list(torch.from_numpy(data()).split(SIZE)))
    want.save(folder / "want.fmstats")
    rows = [{"x": row, "label": 1} for row in data()]
    both = ray.data.from_items(rows, override_num_blocks=BLOCKS)
    profile(net(nn.Identity()), both, inputs="x", batch_size=SIZE).save(folder / "run.fmstats")
    one = ray.data.from_numpy(np.split(data(), BLOCKS))
    dying = net(Dies(folder / "died"))
    profile(dying, one, batch_size=SIZE, include=["1", "2"]).save(folder / "died.fmstats")
    for wrong in ({}, {"inputs": "y"}, {"inputs": lambda batch: batch["x"][:, :5]}, {"limit": 3}):
        try:
            profile(net(nn.Identity()), both, batch_size=SIZE, **wrong)
        except fmstats.FmstatsError as error:
            print(error, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
