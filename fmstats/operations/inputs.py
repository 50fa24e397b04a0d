"""These functions find where a mask or the groups of positions lie in the inputs of a model.

(N,) lies along the batch of each input, (N, T) along that of tokens and what is embedded of them,
(N, H, W) along images of any number of channels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

_MOST_CONTAINERS = 100  # that are looked through


def tensors_of(inputs: Mapping[str, Any]) -> list[tuple[str, Tensor]]:
    """Return the tensors among inputs, also those that these hold, and the names of the inputs."""
    found: list[tuple[str, Tensor]] = []
    waiting, seen = list(inputs.items()), 0
    while waiting and seen < _MOST_CONTAINERS:
        name, value = waiting.pop(0)
        if isinstance(value, Tensor):
            if not value.is_nested and value.dim():
                found.append((name, value))
        elif isinstance(value, Mapping):
            seen += 1
            waiting += [(str(key), inner) for key, inner in value.items()]
        elif isinstance(value, (tuple, list)):
            seen += 1
            waiting += [(name, inner) for inner in value]
    return found


def cut(root: Tensor, inputs: Sequence[Tensor], time_first: bool = False) -> Tensor:
    """Return of (N, T) the last columns, where the inputs of a pass are shorter.

    So a model that generates is given the mask of all tokens so far, and the last of them.
    """
    if root.dim() != 2 or any(lay(root, x, time_first) is not None for x in inputs):
        return root
    lengths = {x.shape[1] for x in inputs if x.dim() in (2, 3) and x.shape[0] == root.shape[0]}
    length = min(lengths, default=0)
    return root[:, root.shape[1] - length :] if 0 < length < root.shape[1] else root


def lay(root: Tensor, x: Tensor, time_first: bool = False) -> Tensor | None:
    """Return a root as it lies in an input; None if that has another shape.

    Args:
        root: (N,), (N, T) or (N, H, W).
        x: the input.
        time_first: whether parts of the model take (T, N, C): then an input may be such a one, and
            one that could be both is taken for neither.
    """
    plain = _lay(root, x)
    if not time_first or x.dim() not in (2, 3) or root.dim() > 2:
        return plain
    turned = _lay(root, x.transpose(0, 1))
    if turned is None or plain is not None:
        return plain if turned is None else None
    return turned.transpose(0, 1)


def _lay(root: Tensor, x: Tensor) -> Tensor | None:
    n, shape = root.dim(), tuple(x.shape)
    if shape[:n] == tuple(root.shape) and not (n == 3 and _is_image(root, x)):
        view = root[(..., *(None,) * (x.dim() - n))]
    elif x.dim() == n + 1 and (shape[0], *shape[2:]) == tuple(root.shape):
        view = root.unsqueeze(1)
    else:
        return None
    return view.expand(shape)


def _is_image(root: Tensor, x: Tensor) -> bool:
    """Tell whether (N, H, W) fit the images (N, C, H, W), also where C is as large as H."""
    return x.dim() == 4 and (x.shape[0], *x.shape[2:]) == tuple(root.shape)
