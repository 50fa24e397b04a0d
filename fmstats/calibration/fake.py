"""Let a model run with the errors that codes of 8 bits make, in floating-point numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor, nn

from fmstats.calibration.layer import LayerQParams
from fmstats.errors import FmstatsError, list_closest
from fmstats.models.selection import ROOT


@contextlib.contextmanager
def fake_quantized(
    model: nn.Module, layers: Mapping[str, LayerQParams], of: str
) -> Iterator[nn.Module]:
    """Within it, all these layers of a model give numbers that have been codes.

    What is coded is the first tensor of a module's output, or the first that it is given. Weights
    stay as they are. A compiled model does not notice; run it as it was before.

    Args:
        model: the one that was profiled, or a copy of it.
        layers: of modules alone, one row of each.
        of: what was calibrated, "output" or "input".

    Raises:
        FmstatsError: the model has not all of these layers as modules, or there are several rows
            of one.
    """
    modules = dict(model.named_modules())
    with contextlib.ExitStack() as hooks:
        hooked = set()
        for name, layer in layers.items():
            module = model if layer.layer == ROOT else modules.get(layer.layer)
            if module is None:
                raise FmstatsError(
                    f"{name!r} is no module of this model, as operations are not; leave it out by "
                    f"layers=; closest: {list_closest(layer.layer, modules)}"
                )
            if module in hooked:
                raise FmstatsError(
                    f"there are several rows of {layer.layer!r}: a module can have but one scale"
                )
            hooked.add(module)
            if of == "input":
                hook = module.register_forward_pre_hook(_coding_input(layer))
            else:
                hook = module.register_forward_hook(_coding_output(layer))
            hooks.callback(hook.remove)
        yield model


def _coding_input(layer: LayerQParams) -> Callable[[nn.Module, Any], Any]:
    def code_input(_: nn.Module, given: Any) -> Any:
        return _code_first(given, layer)

    return code_input


def _coding_output(layer: LayerQParams) -> Callable[[nn.Module, Any, Any], Any]:
    def code_output(_: nn.Module, given: Any, made: Any) -> Any:
        return layer.fake_quantize(made) if isinstance(made, Tensor) else _code_first(made, layer)

    return code_output


def _code_first(parts: Any, layer: LayerQParams) -> Any:
    """Return a tuple or list whose first floating-point tensor has been codes."""
    if not isinstance(parts, (tuple, list)):
        raise FmstatsError(
            f"{layer.layer!r} gives a {type(parts).__name__}: only a tensor, a tuple or a list can "
            "be coded; leave it out by layers="
        )
    for i, part in enumerate(parts):
        if isinstance(part, Tensor) and part.is_floating_point():
            return type(parts)([*parts[:i], layer.fake_quantize(part), *parts[i + 1 :]])
    return parts
