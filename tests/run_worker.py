"""Runs that are killed, in processes of their own: see test_checkpoints.py.

Each run is forked from a process that has imported everything and run nothing, so that most of a
short life is spent in the run itself.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import PIL.Image  # noqa: F401  # here, not in each life
import safetensors.torch  # noqa: F401
import torch
from torch import nn

import fmstats
from fmstats import storage
from fmstats.sources import open_data


def small_net() -> nn.Module:
    """Layers of several kinds, with weights from a seed."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2),
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


def run(photographs: str, checkpoint: Path) -> fmstats.Profile:
    """One run, written down after each image."""
    data = open_data(photographs, batch_size=1, image_size=64)
    return fmstats.profile(small_net(), data, checkpoint=checkpoint, checkpoint_every=0)


def begin(photographs: str, checkpoint: Path, result: Path) -> int:
    """Start a run in a process of its own, which saves its profile as `result`."""
    pid = os.fork()
    if pid:
        return pid
    try:
        storage.save(run(photographs, checkpoint), result)
        os._exit(0)
    finally:
        os._exit(1)


def finish(photographs: str, checkpoint: Path, result: Path) -> float:
    """Run to the end; the seconds that it took."""
    began = time.perf_counter()
    _, status = os.waitpid(begin(photographs, checkpoint, result), 0)
    assert status == 0, status
    return time.perf_counter() - began


def kill(photographs: str, checkpoint: Path, result: Path, after: float) -> bool:
    """Begin a run, or go on with it, and kill it after so many seconds; False if it was done."""
    pid = begin(photographs, checkpoint, result)
    time.sleep(after)
    os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)


def main(photographs: str, folder: Path, kills: int) -> None:
    """Kill a run at so many moments of it, each time once more as it goes on, and let it end."""
    torch.set_num_threads(1)
    draw = random.Random(8).uniform
    finish(photographs, folder / "warm.fmstats", folder / "reference.fmstats")
    whole = finish(photographs, folder / "whole.fmstats", folder / "reference.fmstats")
    number = 0
    while number < kills:
        checkpoint, result = (folder / f"{kind}{number}.fmstats" for kind in ("run", "result"))
        # A random moment of each of so many parts of the run.
        if not kill(photographs, checkpoint, result, draw(number, number + 1) / kills * whole):
            checkpoint.unlink()
            whole *= 0.95  # it was slower when it was timed
            continue
        done = storage.load(checkpoint).metadata["samples"] if checkpoint.exists() else 0
        print(f"killed after {done} samples", flush=True)
        kill(photographs, checkpoint, result, draw(0, whole / 2))
        finish(photographs, checkpoint, result)
        number += 1


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
