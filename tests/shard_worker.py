"""One rank of a run that is shared out: see test_shards.py."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

import fmstats
from fmstats import storage
from fmstats.runs.shards import join_launched
from fmstats.sources import open_data

SAMPLES, SIZE = 23, 4


def data() -> torch.Tensor:
    """Images of noise."""
    return torch.randn(SAMPLES, 3, 12, 12, generator=torch.Generator().manual_seed(5))


def net() -> nn.Module:
    """Weights from a seed."""
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 5, 3), nn.ReLU(), nn.Flatten(), nn.Linear(500, 7)
    return nn.Sequential(*layers).double()


def stream() -> Iterator[torch.Tensor]:
    """Batches of other lengths, one after the other."""
    yield from data().split([3, 5, 1, 4, 4, 2, 4])


class _Fails(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("this rank is ill")


def run(folder: Path, group: object) -> dict[str, fmstats.Profile]:
    """Each kind of run."""
    stored = open_data(folder / "x.npy", batch_size=SIZE)
    images = folder / "images"
    return {
        "stored": fmstats.profile(net(), stored, group=group),
        "stored, limited": fmstats.profile(net(), stored, group=group, limit=9),
        "stream": fmstats.profile(net(), stream(), group=group),
        "stream, limited": fmstats.profile(net(), stream(), group=group, limit=10, batch_dim=0),
        "float32": fmstats.profile(net().float(), stored, group=group),
        "one batch": fmstats.profile(net(), [data()], group=group),
        "images": fmstats.profile(
            net()[:2],
            open_data(images, batch_size=2, image_size=12, on_bad_sample="skip"),
            group=group,
        ),
        "checkpoint": fmstats.profile(
            net(), stored, group=group, checkpoint=folder / f"run{group}.fmstats"
        ),
    }


def main(folder: Path, task: str) -> None:
    """Run as one rank of several, or alone."""
    torch.set_num_threads(1)
    with join_launched(None) as (share, _):
        group = "world" if share.ranks > 1 else None
        if task == "run":
            for name, profile in run(folder, group).items():
                path = folder / f"{name}, {share.rank} of {share.ranks}.fmstats"
                storage.save(profile, path)
        elif share.rank == 1 and task == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            model = _Fails() if share.rank == 1 else net()
            fmstats.profile(model, stream(), group=group)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
    assert not dist.is_initialized()
