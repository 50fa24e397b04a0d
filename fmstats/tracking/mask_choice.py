"""`MaskChoice` tells what the `mask=` of `track` asks for: of inputs, and of single layers."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn as nn

from fmstats.errors import FmstatsError
from fmstats.models.selection import Selector, fitting
from fmstats.tracking.arguments import Reader

AUTO = "auto"
INPUTS = "(inputs)"  # what a mapping of masks calls the inputs, among selectors of layers
_PREFIX = "the mask told to "


class MaskChoice:
    """A choice holds the mask of the inputs, and those that layers are told instead.

    Args:
        asked: as `mask` of `track`.

    Attributes:
        of_inputs: the name of an argument, a function, "auto", or None.
        told: what gives the masks of layers, by their names among the masks of a pass.
        selectors: of these layers, by the same names.

    Raises:
        FmstatsError: it is none of what `mask` can be.
    """

    def __init__(self, asked: object) -> None:
        self.of_inputs: str | Reader | None = None
        self.told: dict[str, str | Reader] = {}
        self.selectors: dict[str, Selector] = {}
        by_selector = asked if isinstance(asked, Mapping) else {INPUTS: asked}
        for selector, each in by_selector.items():
            if not (isinstance(each, str) or callable(each) or (each is None and asked is None)):
                raise FmstatsError(
                    f"mask={asked!r}: give the name of an argument of forward(), 'auto', a "
                    f"function of (args, kwargs), or a mapping of selectors and {INPUTS!r} to "
                    "these; a tensor is given by tracker.positions(mask)"
                )
            if selector == INPUTS:
                self.of_inputs = each
            elif each == AUTO:
                raise FmstatsError(
                    f"mask: {AUTO!r} finds the masks of {INPUTS!r}; {selector!r} is told its own "
                    "by the name of an argument or a function"
                )
            elif each is not None:
                name = f"{_PREFIX}{selector!r}"
                self.told[name], self.selectors[name] = each, selector

    def names_of(self, modules: Mapping[str, nn.Module]) -> dict[str, str]:
        """Return which of these modules are told a mask, and the name of it.

        Raises:
            FmstatsError: a selector that fits none of them.
        """
        found: dict[str, str] = {}
        for name, selector in self.selectors.items():
            found |= dict.fromkeys(fitting(selector, modules, "mask"), name)
        return found
