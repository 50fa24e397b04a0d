"""Runs that are killed, in processes of their own: see test_checkpoints.py.

Each run is forked from a process that has imported everything and run nothing, so that most of a
short life is spent in the run itself.
"""

from __future__ import annotations

import os
import random
import shutil
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


def main(photographs: str, folder: Path, kills: int) -> None:
    """Kill one run again and again, and finish a copy of it from each moment."""
    torch.set_num_threads(1)
    moments = random.Random(8)
    finish(photographs, folder / "warm.fmstats", folder / "reference.fmstats")
    whole = finish(photographs, folder / "whole.fmstats", folder / "reference.fmstats")
    checkpoint = folder / "run.fmstats"
    number = 0
    while number < kills:
        pid = begin(photographs, checkpoint, folder / "end.fmstats")
        time.sleep(moments.uniform(0, whole / 2))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        if os.WIFEXITED(status):  # It had come to its end before.
            checkpoint.unlink()
            continue
        copy = folder / f"copy{number}.fmstats"
        if checkpoint.exists():
            shutil.copy(checkpoint, copy)
        done = storage.load(copy).metadata["samples"] if copy.exists() else 0
        finish(photographs, copy, folder / f"result{number}.fmstats")
        print(f"killed after {done} samples", flush=True)
        number += 1
    finish(photographs, checkpoint, folder / "end.fmstats")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
