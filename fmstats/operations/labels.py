"""A label tells which dims of a tensor hold its channels, and these functions carry labels on.

A label is a tuple of dims, in ascending order:

- `(1,)`: dim 1 holds the channels;
- `(2, 3)`: a reshape has split the channels over two dims, as into heads or groups;
- `()`: the channels were reduced, indexed or multiplied away: the tensor has one channel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Label = tuple[int, ...]


def one_dim(label: Label) -> int | None:
    """Return the dim whose entries are told as channels; None where all is one channel.

    Channels that are split are told by the outermost dim: the heads or the groups.
    """
    return label[0] if label else None


def shift(label: Label, by: int) -> Label:
    """Return a label whose dims have others put before them."""
    return tuple(dim + by for dim in label)


def insert_dim(label: Label, at: int) -> Label:
    """Return the label of a tensor that has one more dim, at `at`."""
    return tuple(dim + (dim >= at) for dim in label)


def remove_dims(label: Label, gone: Sequence[int]) -> Label:
    """Return the label of a tensor without the dims `gone`."""
    return tuple(dim - sum(g < dim for g in gone) for dim in label if dim not in gone)


def permute(label: Label, order: Sequence[int]) -> Label:
    """Return the label of a tensor whose dim i was dim `order[i]`."""
    return tuple(i for i, dim in enumerate(order) if dim in label)


def reshape(label: Label, before: Sequence[int], after: Sequence[int]) -> Label:
    """Return the label of a tensor of shape `before` that is read in the shape `after`.

    A dim of the result has channels if all that it is made of has; if there is no such dim, those
    are taken that have channels among other dims, as the features that flattening a feature map
    makes. Channels that are joined with the batch, which is dim 0, are lost among it, also where
    it is one sample; and what a dim 0 of size 1 is split from, as the samples of a convolution
    that has them as groups, is the batch again.
    """
    sources = _overlaps(before, after)
    whole = [dim for dim, old in sources.items() if old and set(old) <= set(label)]
    some = [
        dim
        for dim, old in sources.items()
        if set(old) & set(label) and (0 in label or 0 not in old)
    ]
    found = tuple(dim for dim in whole or some if dim > 0 or 0 in label)
    return found or _follow_single(label, before, after)


def _overlaps(before: Sequence[int], after: Sequence[int]) -> dict[int, list[int]]:
    """Return the dims of `before` that each dim of `after` is made of, none of those of size 1."""
    old = _spans(before)
    return {
        dim: [was for was, (low, high) in old.items() if max(low, begin) < min(high, end)]
        for dim, (begin, end) in sorted(_spans(after).items())
    }


def _spans(shape: Sequence[int]) -> dict[int, tuple[int, int]]:
    """Return, for each dim larger than 1, the steps between its entries and over all of them."""
    spans, step = {}, 1
    for dim in reversed(range(len(shape))):
        if shape[dim] > 1:
            spans[dim] = step, step * shape[dim]
            step *= shape[dim]
    return spans


def _follow_single(label: Label, before: Sequence[int], after: Sequence[int]) -> Label:
    """Return the label where the channels are a dim of size 1, in the same place if it stays."""
    if not label or any(before[dim] != 1 for dim in label):
        return ()
    ahead = math.prod(before[: label[0]])
    places = [
        dim for dim, size in enumerate(after) if size == 1 and math.prod(after[:dim]) == ahead
    ]
    return (min(places, key=lambda dim: abs(dim - label[0])),) if places else ()
