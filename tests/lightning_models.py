"""A LightningModule and its data, small and alike in every process.

Imported by tests and by what their ranks run. Batches differ in size and scale, so that losing one,
or counting one twice, shows in every number.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from lightning.pytorch import LightningModule, Trainer, seed_everything
from torch import Tensor, nn

import fmstats

ROWS = (4, 3, 2, 5, 4, 3, 1)  # of each training batch


class Net(LightningModule):
    def __init__(self, fail_at: int | None = None, frozen: bool = False) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2)).double()
        self.fail_at, self.frozen = fail_at, frozen

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss = self.net(batch).square().mean()
        if batch_idx == self.fail_at:
            raise RuntimeError("the batch is bad")
        return loss

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self.net(batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0 if self.frozen else 0.01)


def batches(seed: int = 0, rows: tuple[int, ...] = ROWS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        (1 + i) * torch.randn(count, 6, generator=generator, dtype=torch.float64)
        for i, count in enumerate(rows)
    ]


def loader(data: list[Tensor]) -> torch.utils.data.DataLoader:
    return torch.utils.data.DataLoader(data, batch_size=None)


class Resumable:
    """A loader that a checkpoint in the midst of an epoch can go on with."""

    def __init__(self, data: list[Tensor]) -> None:
        self.data, self.begin, self.done = data, 0, 0

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Iterator[Tensor]:
        begin, self.begin = self.begin, 0
        for done, batch in enumerate(self.data[begin:], begin + 1):
            self.done = done
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.begin = state["done"]


def trainer(folder, callbacks, **options) -> Trainer:
    seed_everything(1, verbose=False)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    common = {"accelerator": "cpu", "logger": False, "enable_checkpointing": False}
    return Trainer(default_root_dir=folder, callbacks=callbacks, **{**quiet, **common, **options})


def plain(data: list[Tensor], model: nn.Module | None = None) -> fmstats.Profile:
    """What `fmstats.track` sees of a model that does not learn."""
    model = Net().net if model is None else model
    with fmstats.track(model) as tracker, torch.no_grad():
        for x in data:
            model(x)
    return tracker.stats()


def hooks_of(model: nn.Module) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()
    )
