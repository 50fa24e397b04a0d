"""Find the images of a data set that excite a channel most."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, get_args

import torch
from torch import Tensor, nn

from fmstats.errors import FmstatsError, check_whole
from fmstats.pictures.capture import find_layer, look_at, run, watch
from fmstats.pictures.gallery import By, TopImage, TopImages
from fmstats.pictures.maps import arrange, check_channel, to_host
from fmstats.runs import open_batches
from fmstats.sources.batches import ModelInput, read_batches

if TYPE_CHECKING:
    pass


def top_images(
    model: nn.Module,
    data: object,
    layer: str,
    channel: int,
    k: int = 9,
    *,
    by: By = "max",
    limit: int | None = None,
    channel_dim: int | str = "auto",
) -> TopImages:
    """Find the k images of a data set that most excite one channel of a layer.

    The data streams through the model once, in evaluation mode and without gradients; in memory
    are k images with their maps, and one batch with the copy that the model is given. The model
    comes back as it was.

    Args:
        model: any module; batches go to its device and dtype.
        data: as in `fmstats.profile`: an iterable of batches, a `DataSource`, the text or path that
            `fmstats.sources.open_data` takes, or a tensor or array, which is one batch.
        layer: a module's name, as in `visualize`.
        channel: from 0 up.
        k: so many images.
        by: the score, over all positions of the channel: "max" or "mean".
        limit: stop after this many samples; None: all.
        channel_dim: the dim of the layer's output that holds the channels; "auto": by its type.

    Returns:
        The images, the highest score first; of equal scores the one that came first. A score of
        NaN never wins. `.figure()` draws them.

    Raises:
        FmstatsError: an unknown layer, channel or option; data without a batch; a layer that does
            not run, has no maps, or mixes samples; or the model refuses a batch.

    Examples:
        >>> import fmstats, torch
        >>> model = torch.nn.Sequential(torch.nn.Identity())
        >>> images = torch.arange(4.0).reshape(4, 1, 1, 1).expand(4, 1, 2, 2)
        >>> best = fmstats.top_images(model, images, "0", channel=0, k=2)
        >>> [(image.index, image.score) for image in best]
        [(3, 3.0), (2, 2.0)]
    """
    if by not in get_args(By):
        raise FmstatsError(f"by={by!r}: choose from {', '.join(get_args(By))}")
    check_whole("k", k)
    if limit is not None:
        check_whole("limit", limit)
    layer, module = find_layer(model, layer)
    kind = type(module).__name__
    best = _Best(k, by, layer, channel)
    batches = open_batches(data)
    with look_at(model) as copies, watch(copies.model, [layer], best.keep, channel_dim) as seen:
        for number, inputs in enumerate(read_batches(batches, limit, batch_dim=0), start=1):
            seen.calls.clear()
            run(copies, inputs, f"batch {number}")
            seen.require(layer, kind)
            best.choose(inputs)
    if not best.samples:
        raise FmstatsError(
            "the data gave no batch: they are empty, or an iterator that was used up before"
        )
    return TopImages(layer, kind, best.channel, by, best.samples, tuple(best.images))


class _Best:
    """Holds the best images so far."""

    def __init__(self, k: int, by: By, layer: str, channel: int) -> None:
        self._k, self._by, self._layer = k, by, layer
        self._last: tuple[Tensor, int] | None = None
        self.channel = channel
        self.samples = 0
        self.images: list[TopImage] = []

    def keep(self, _layer: str, x: Tensor, dim: int) -> None:
        """Copy the channel out of an output of the layer."""
        self.channel = check_channel(self.channel, x.shape[dim], self._layer)
        if dim == 0:
            raise FmstatsError(
                f"layer {self._layer!r} gives {tuple(x.shape)} with its channels in dim 0, so "
                "nothing runs along the samples: give batches, or channel_dim="
            )
        self._last = x.narrow(dim, self.channel, 1).clone(), dim

    def choose(self, inputs: ModelInput) -> None:
        """Take what is better than the worst so far from the batch just run."""
        assert self._last is not None
        values, dim = self._last
        many = inputs.samples
        if len(values) != many:
            raise FmstatsError(
                f"layer {self._layer!r} gave {len(values)} items along dim 0 for a batch of "
                f"{'unknown' if many is None else many} samples: no telling which belongs to which"
            )
        flat = values.reshape(len(values), -1)
        flat = flat.double() if flat.device.type != "mps" else flat.float()
        scores = (flat.amax(1) if self._by == "max" else flat.mean(1)).tolist()
        sources = [v for v in (*inputs.args, *inputs.kwargs.values()) if isinstance(v, Tensor)]
        for place in sorted(range(len(scores)), key=lambda p: _rank(scores[p])):
            score = scores[place]
            full = len(self.images) == self._k
            if math.isnan(score) or (full and score <= self.images[-1].score):
                break
            image = sources[0][place] if sources else torch.empty(0)
            arranged = arrange(values, dim, place)
            found = TopImage(
                self.samples + place,
                score,
                image.detach().to("cpu", copy=True),
                to_host(arranged.maps[0]),
            )
            self.images = sorted([*self.images[: self._k - full], found], key=lambda i: -i.score)
        self.samples += len(values)
        self._last = None


def _rank(score: float) -> tuple[bool, float]:
    """Return a sort key that puts the best score first and NaN last, also after -inf."""
    return math.isnan(score), 0.0 if math.isnan(score) else -score
