"""Run `fmstats.profile` on Ray Data: Ray workers measure the blocks of a dataset.

A block's profile comes back in one piece when the block is done. So a worker that is lost takes all
of its block with it, Ray gives the block to another one, and nothing is counted twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch

import fmstats
from fmstats.errors import needs

Columns = dict[str, np.ndarray]


def profile(
    model: torch.nn.Module,
    dataset: Any,
    *,
    inputs: str | Callable[[Columns], object] | None = None,
    batch_size: int = 32,
    workers: int = 1,
    num_cpus: float = 1,
    num_gpus: float = 0,
    **options: Any,
) -> fmstats.Profile:
    """Run `model` over a Ray dataset once, on the workers of a Ray cluster.

    Args:
        model: is sent to each worker, so it must be picklable.
        dataset: a `ray.data.Dataset`; it is streamed, and its blocks are what is shared out.
        inputs: the column that holds the model's input, a row a sample; or a function of a batch,
            a dict of NumPy arrays by column, that returns what `fmstats.profile` takes as a batch.
            None: the only column.
        batch_size: samples of a forward pass; the last one of a block may have fewer.
        workers: Ray actors that run the model at the same time.
        num_cpus: CPUs of each of them.
        num_gpus: GPUs of each of them; give `device="cuda"` as well.
        **options: of `fmstats.profile`, but neither `limit`, nor `checkpoint`, nor `group`. Where
            `inputs` is a function, `batch_dim` may say where its samples are.

    Returns:
        The profiles of all blocks merged in the order of the dataset, with the metadata that
        `Profile.merge` gives: `samples` and `batches` are of all, `seconds` are those of all
        workers together, `profiles` is the number of blocks.

    Raises:
        FmstatsError: Ray is missing, an option is not for here, the dataset has no such column or
            no row, or a worker refused its block: the message says why.
    """
    with needs("fmstats.integrations.ray", "Ray", "'fmstats[ray]'"):
        import ray
        import ray.data
    alien = sorted({"limit", "checkpoint", "checkpoint_every", "resume", "group"} & options.keys())
    if alien:
        raise fmstats.FmstatsError(
            f"{alien[0]}= is not for Ray, which shares the data out and retries by itself; "
            "dataset.limit(n) cuts them"
        )
    if not isinstance(dataset, ray.data.Dataset):
        raise fmstats.FmstatsError(
            f"dataset is of type {type(dataset).__name__}, not a ray.data.Dataset: make one with "
            "ray.data.read_images(...) or the like"
        )
    mapped = dataset.map_batches(
        _Worker,
        batch_size=None,  # A whole block.
        batch_format="numpy",
        fn_constructor_args=(ray.put(model), inputs, batch_size, options),
        concurrency=workers,
        num_cpus=num_cpus,
        num_gpus=num_gpus,
    )
    mapped.context.execution_options.preserve_order = True
    return _merge(mapped)


class _Worker:
    """Runs in each actor, and measures blocks."""

    def __init__(
        self,
        model: Any,
        inputs: str | Callable[[Columns], object] | None,
        batch_size: int,
        options: Mapping[str, Any],
    ) -> None:
        import ray

        self._model: torch.nn.Module = ray.get(model)
        self._inputs, self._batch_size, self._options = inputs, batch_size, options

    def __call__(self, block: Columns) -> dict[str, list[Any]]:
        """Return the profile of a block as bytes, or the reason why there is none."""
        if not len(next(iter(block.values()), ())):
            return {"profile": [], "error": []}
        options = {"progress": False, **self._options}
        if not callable(self._inputs):
            options.setdefault("batch_dim", 0)  # a row of the dataset is a sample
        try:
            result = fmstats.profile(self._model, self._split(block), **options)
        except fmstats.FmstatsError as error:
            return {"profile": [b""], "error": [str(error)]}
        return {"profile": [result.to_bytes()], "error": [""]}

    def _split(self, block: Columns) -> Iterator[object]:
        rows = len(next(iter(block.values())))
        for start in range(0, rows, self._batch_size):
            part = {
                name: values[start : start + self._batch_size] for name, values in block.items()
            }
            yield self._inputs(part) if callable(self._inputs) else part[self._column(part)]

    def _column(self, block: Columns) -> str:
        if isinstance(self._inputs, str) and self._inputs in block:
            return self._inputs
        if self._inputs is None and len(block) == 1:
            return next(iter(block))
        asked = "none was named" if self._inputs is None else f"{self._inputs!r} was asked for"
        raise fmstats.FmstatsError(
            f"which column is the input? The dataset has {', '.join(map(repr, block))}; {asked}: "
            "inputs= takes a column or a function"
        )


def _merge(mapped: Any) -> fmstats.Profile:
    whole: fmstats.Profile | None = None
    for row in mapped.iter_rows():
        if row["error"]:
            raise fmstats.FmstatsError(f"a worker refused its block: {row['error']}")
        part = fmstats.Profile.from_bytes(row["profile"])
        whole = part if whole is None else whole.merge(part, missing="keep")
    if whole is None:
        raise fmstats.FmstatsError("the dataset has no row")
    return whole
