"""What each rank of tests/test_integrations_lightning.py does: train with DDP, keep the profile."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch
from lightning.pytorch.loggers import CSVLogger
from lightning_models import Net, batches, loader, trainer

from fmstats.integrations.lightning import FeatureMapStats


class Apart(Net):
    """Gives each rank data of its own."""

    def train_dataloader(self):
        return loader(batches(self.global_rank))


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    stats = FeatureMapStats(module="net", log_every_n_steps=4, save=folder / "saved.fmstats")
    run = trainer(
        folder,
        [stats],
        max_epochs=1,
        strategy="ddp",
        devices=2,
        use_distributed_sampler=False,
        logger=CSVLogger(folder, "", "log"),
    )
    run.fit(Apart(frozen=True))
    stats.profile.save(folder / f"rank{run.global_rank}.fmstats")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
