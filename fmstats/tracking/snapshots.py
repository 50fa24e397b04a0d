"""Snapshots hold rows and layers as they were; `TensorInfo` is what a row knows of its tensors."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from fmstats.statistic.state import State
from fmstats.tracking.row_groups import GroupsSnapshot


@dataclass(frozen=True)
class TensorInfo:
    """`TensorInfo` holds what a profile says of a row's tensors beside their statistics.

    Attributes:
        shape, dtype: of the last one.
        dims: the dim of the channels by the number of dims, None where all is one channel.
        backends: that measured what was restored.
    """

    shape: tuple[int, ...] = ()
    dtype: str = ""
    dims: tuple[tuple[int, int | None], ...] = ()
    backends: tuple[str, ...] = ()

    def joined_by(self, shape: tuple[int, ...], dtype: torch.dtype, dim: int | None) -> TensorInfo:
        """Return what is known with a further tensor, whose channels are in `dim`."""
        dims = tuple(sorted({**dict(self.dims), len(shape): dim}.items()))
        return TensorInfo(shape, str(dtype).removeprefix("torch."), dims, self.backends)


@dataclass(frozen=True)
class RowSnapshot:
    """`RowSnapshot` holds a row as it was at some time, without its states, copied apart.

    Attributes:
        calls, execution_index: as of `Row`.
        tensor_info: what was noted of its tensors.
        restored: what its first state was to begin with.
        groups: of its groups.
        unmasked: as of `Row`.
    """

    calls: int = 0
    execution_index: int | None = None
    tensor_info: TensorInfo = TensorInfo()
    restored: State | None = None
    groups: GroupsSnapshot = field(default_factory=GroupsSnapshot)
    unmasked: int = 0


@dataclass(frozen=True)
class LayerSnapshot:
    """`LayerSnapshot` holds a layer as it was at some time, without its states, copied apart.

    Attributes:
        reason, left_out: as of `Layer`.
        rows: the snapshot of each row, by its width.
    """

    reason: str | None = None
    left_out: int = 0
    rows: dict[int, RowSnapshot] = field(default_factory=dict)
