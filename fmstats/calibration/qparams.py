"""Hold the scales and zero points of a model's layers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from fmstats.calibration import files
from fmstats.calibration.fake import fake_quantized
from fmstats.calibration.layer import LayerQParams
from fmstats.errors import list_closest, needs
from fmstats.output.tables import (
    Column,
    Table,
    format_number,
    format_plural,
    format_share,
    name_some,
)
from fmstats.statistic.distribution import Array

if TYPE_CHECKING:
    import pandas as pd

_NAMES_SHOWN = 5


class QParams(Mapping[str, LayerQParams]):
    """Maps the rows of a profile to what turns their numbers into codes of 8 bits.

    Examples:
        >>> import torch
        >>> with fmstats.track(model := torch.nn.Sequential(torch.nn.ReLU())) as tracker:
        ...     out = model(torch.tensor([[-1.0, 2.0, 6.35]]))
        >>> found = tracker.stats().qparams("int8", "absmax")
        >>> print(found["0"].scale, found["0"].zero_point)
        0.05 0

    Attributes:
        settings: `scheme`, `method`, `per` and `q` as they were asked for, and of what of each
            layer they are: `of`, "output" or "input".
    """

    def __init__(self, layers: Mapping[str, LayerQParams], settings: Mapping[str, Any]) -> None:
        self._layers, self.settings = dict(layers), dict(settings)

    def __getitem__(self, layer: str) -> LayerQParams:
        if layer not in self._layers:
            closest = list_closest(str(layer), self._layers)
            raise KeyError(f"no layer {layer!r}; closest: {closest}")
        return self._layers[layer]

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    @property
    def neutral(self) -> dict[str, list[int]]:
        """Return the layers that have channels of one number or none, and these channels."""
        return {name: list(layer.neutral) for name, layer in self.items() if layer.neutral}

    def fake_quantized(self, model: nn.Module) -> AbstractContextManager[nn.Module]:
        """Within it, all these layers of a model give numbers that have been codes.

        See `fmstats.calibration.fake.fake_quantized`.

        Raises:
            FmstatsError: the model has not all of these layers as modules.
        """
        return fake_quantized(model, self, str(self.settings["of"]))

    def save(self, path: str | Path) -> None:
        """Write them to a file. See `fmstats.calibration.files.save`.

        Args:
            path: of the file, which ends in `.safetensors` or `.json`.

        Raises:
            FmstatsError: it ends otherwise, or the disk refuses.
        """
        files.save(self, self.settings, Path(path))

    @staticmethod
    def load(path: str | Path) -> QParams:
        """Read them from a file that `save` wrote.

        Args:
            path: of the file.

        Raises:
            FmstatsError: it is no such file.
        """
        return QParams(*files.load(Path(path)))

    def to_dict(self) -> dict[str, Any]:
        """Return lists, numbers and strings: the settings, and `{"layers": {name: ...}}`."""
        return files.describe(self, self.settings)

    def to_pandas(self) -> pd.DataFrame:
        """Return a row for each scale: layer, channel (None of a whole layer), scale and so on.

        Raises:
            FmstatsError: pandas is not installed.
        """
        with needs("to_pandas()", "pandas", "'fmstats[pandas]'"):
            from pandas import DataFrame
        rows = [row for name, layer in self.items() for row in _list_scales(name, layer)]
        columns = ("layer", "channel", "scale", "zero_point", "low", "high", "neutral")
        frame: pd.DataFrame = DataFrame(rows, columns=columns)
        return frame

    def rows(self) -> list[dict[str, Any]]:
        """Return a row for each layer, as it is printed."""
        return [_summarise(name, layer) for name, layer in self.items()]

    def __str__(self) -> str:
        title = ", ".join(f"{name}={value}" for name, value in self.settings.items())
        if not self:
            return f"{title}: no layer"
        return "\n".join([title, str(Table(COLUMNS, self.rows())), *self.list_neutral()])

    def __repr__(self) -> str:
        return f"QParams({format_plural(len(self), 'layer')})\n{self}"

    def list_neutral(self) -> list[str]:
        """Return the lines that say which scales rest on one number or none."""
        if not self.neutral:
            return []
        names = [
            name if self[name].channel_dim is None else f"{name} ({len(channels):,} channels)"
            for name, channels in self.neutral.items()
        ]
        return [f"one number or none was seen of {name_some(names, _NAMES_SHOWN)}"]


def _list_scales(name: str, layer: LayerQParams) -> Iterator[tuple[Any, ...]]:
    arrays = (layer.scale, layer.zero_point, layer.low, layer.high)
    columns = zip(*(array.reshape(-1).tolist() for array in arrays), strict=True)
    for channel, numbers in enumerate(columns):
        place = None if layer.channel_dim is None else channel
        yield (name, place, *numbers, channel in layer.neutral)


def _summarise(name: str, layer: LayerQParams) -> dict[str, Any]:
    return {
        "layer": name,
        "scales": layer.scale.size,
        "scale": _span(layer.scale),
        "zero_point": _span(layer.zero_point),
        "low": _span(layer.low),
        "high": _span(layer.high),
        "clipped": layer.clipped,
        "sqnr": layer.sqnr,
    }


def _span(values: Array) -> str:
    """Return the number, or the smallest and the largest one."""
    ends = dict.fromkeys(format_number(float(v)) for v in (values.min(), values.max()))
    return " to ".join(ends)


def _format_decibel(x: float | None) -> str:
    return "-" if x is None else f"{x:.1f} dB"


def _format_clipped(x: float | None) -> str:
    return "<0.1%" if x is not None and 0 < x < 0.001 else format_share(x)


COLUMNS = (
    Column("layer", "layer", left=True, names=True),
    Column("scales", "scales", keep=1),
    Column("scale", "scale", keep=9),
    Column("zero_point", "zero point", keep=8),
    Column("low", "low", keep=5),
    Column("high", "high", keep=6),
    Column("clipped", "clipped", _format_clipped, keep=4),
    Column("sqnr", "expected SQNR", _format_decibel, keep=7),
)
