"""What each rank of tests/test_ranks.py does: `torch.distributed.run ... rank_worker.py FOLDER`.

A case returns what the test looks at; what it raises is written down as well.
"""

from __future__ import annotations

import os
import sys
import traceback
import warnings
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    RowwiseParallel,
    parallelize_module,
)
from torch.nn.parallel import DistributedDataParallel

import fmstats
from fmstats.errors import FmstatsError
from fmstats.tracking.tracker import Tracker

RANKS = 2


class Net(nn.Module):
    """The layer `rare` runs on odd ranks alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
        self.rare, self.head = nn.Tanh(), nn.Linear(64, 5)
        self.double()  # measured alike in any order, up to float64 rounding

    def forward(self, x: Tensor, odd: bool = False) -> Tensor:
        x = self.body(x).flatten(1)
        return self.head(self.rare(x) if odd else x)


def data_of(rank: int) -> list[Tensor]:
    """Batches of a rank: other numbers and other sizes on each."""
    generator = torch.Generator().manual_seed(rank)
    return [torch.randn(2 + rank + i, 3, 6, 6, generator=generator).double() for i in range(3)]


def run(model: nn.Module, rank: int, train: bool = False) -> None:
    for x in data_of(rank):
        loss = model(x, odd=rank % 2 == 1).square().sum()
        if train:
            loss.backward()


def results(tracker: Tracker) -> dict[str, object]:
    """The profile of this rank, and that of all."""
    return {"own": tracker.stats(), "world": tracker.stats(group="world")}


def ddp() -> object:
    model = DistributedDataParallel(Net())
    with fmstats.track(model) as tracker:
        run(model, dist.get_rank(), train=True)
    return results(tracker)


def ddp_around_a_tracked_model() -> object:
    model = Net()
    with fmstats.track(model) as tracker:
        run(DistributedDataParallel(model), dist.get_rank())
    return results(tracker)


def fsdp() -> object:
    model = Net()
    fully_shard(model.body, mesh=mesh())
    fully_shard(model, mesh=mesh())
    with fmstats.track(model) as tracker:
        run(model, dist.get_rank(), train=True)
    return results(tracker)


def train_parameters(model: nn.Module, group: object) -> dict[str, object]:
    """Every rank has the data of the first, so that one process would do the same steps."""
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    with fmstats.track_parameters(model, optimizer) as tracker:
        for x in data_of(0):
            optimizer.zero_grad()
            model(x, odd=True).square().sum().backward()
            optimizer.step()
    return {"own": tracker.stats(), "world": tracker.stats(group=group)}


def parameters_ddp() -> object:
    return train_parameters(DistributedDataParallel(Net()), "world")


def parameters_fsdp() -> object:
    model = Net()
    fully_shard(model.body, mesh=mesh())
    fully_shard(model, mesh=mesh())
    return train_parameters(model, "world")


def parameters_cut_otherwise() -> object:
    model = nn.Linear(4, 4)
    model.weight = nn.Parameter(DTensor.from_local(torch.ones(4, 4), mesh(), [Partial()]))
    return error_of(lambda: fmstats.track_parameters(model))


def one_rank_sees_nothing() -> object:
    model = Net()
    with fmstats.track(model) as tracker:
        if dist.get_rank() == 1:
            run(model, 1)
    return results(tracker)


def groups() -> object:
    both, first = dist.new_group([1, 0]), dist.new_group([0])
    model = Net()
    with fmstats.track(model) as tracker:
        run(model, dist.get_rank())
    return {
        "both": tracker.stats(group=both),
        "first": error_of(lambda: tracker.stats(group=first)),
        "of mesh": tracker.stats(group=mesh().get_group()),
        "name": error_of(lambda: tracker.stats(group="all")),
    }


def other_channels() -> object:
    model = nn.Sequential(nn.Linear(3, 4 + dist.get_rank()))
    with fmstats.track(model) as tracker:
        model(torch.randn(2, 3))
    return error_of(lambda: tracker.stats(group="world"))


def dtensors() -> object:
    model = nn.Sequential(nn.Identity())
    x = torch.arange(24.0).view(4, 6)

    def seen(given: DTensor) -> dict[str, object]:
        with fmstats.track(model) as tracker:
            model(given)
        return {**results(tracker), "reason": tracker.coverage()[0].reason}

    sums = DTensor.from_local(x, mesh(), [Partial()], run_check=False)
    uneven = distribute_tensor(x[:1], mesh(), [Shard(0)])
    return {
        "Shard(0)": seen(distribute_tensor(x, mesh(), [Shard(0)])),
        "Replicate": seen(distribute_tensor(x, mesh(), [Replicate()])),
        "Shard(1)": seen(distribute_tensor(x, mesh(), [Shard(1)])),
        "Shard(-1)": seen(distribute_tensor(x, mesh(), [Shard(-1)])),
        "Partial": seen(sums),
        "uneven": seen(uneven),
    }


def tensor_parallel() -> object:
    def net() -> nn.Module:
        torch.manual_seed(3)
        return nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 4))

    torch.manual_seed(4)
    x = torch.randn(2, 6, 6)
    out = {}
    for local in (False, True):
        model = parallelize_module(
            net(),
            mesh(),
            {
                "1": ColwiseParallel(use_local_output=local),
                "3": RowwiseParallel(),
            },
        )
        with fmstats.track(model) as tracker:
            model(x)
        reasons = {row.name: row.reason for row in tracker.coverage()}
        if local:
            out["refused"] = error_of(lambda: tracker.stats(group="world"))
        out["local" if local else "dtensor"] = {"own": tracker.stats(), "reasons": reasons}
    whole = net()
    with fmstats.track(whole) as tracker:
        whole(x)
    return {**out, "whole": tracker.stats()}


def compiled_ddp() -> object:
    model = DistributedDataParallel(Net())
    with fmstats.track(torch.compile(model, backend="eager")) as tracker:
        run(model, dist.get_rank())
    return results(tracker)


def mesh() -> DeviceMesh:
    return init_device_mesh("cpu", (RANKS,))


def error_of(act: Callable[[], object]) -> object:
    """The text of an FmstatsError, or what was returned instead."""
    try:
        return act()
    except FmstatsError as error:
        return str(error)


CASES: list[Callable[[], object]] = [
    ddp,
    ddp_around_a_tracked_model,
    fsdp,
    parameters_ddp,
    parameters_fsdp,
    parameters_cut_otherwise,
    one_rank_sees_nothing,
    groups,
    other_channels,
    dtensors,
    tensor_parallel,
    compiled_ddp,
]


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", timeout=timedelta(seconds=40))
    found: dict[str, object] = {}
    for case in CASES:
        try:
            found[case.__name__] = case()
        except Exception:
            found[case.__name__] = traceback.format_exc()
    torch.save(found, folder / f"rank{dist.get_rank()}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main(Path(sys.argv[1]))
