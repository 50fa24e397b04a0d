"""`KnownPlaces` remembers which places of operations have layers."""

from __future__ import annotations

import weakref
from typing import Any, NamedTuple

from fmstats.operations.places import Line, Place
from fmstats.tracking.hooks import LayerHook

_MOST_PLACES = 10_000

Key = tuple[int, str, tuple[Line, ...]]  # the module, the operation and the place


class Found(NamedTuple):
    """What is known of a place: the hooks of the module, and that of its layer if it has one.

    A place may be `open`: what it has joined so far were not two feature maps.
    """

    hooks: weakref.ref[Any]
    hook: LayerHook | None
    open: bool


class KnownPlaces:
    """The places that were met, while their modules live."""

    def __init__(self) -> None:
        self._found: dict[Key, Found] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._found

    def find(self, key: Key, place: Place) -> Found | None:
        """Return what is known of a place."""
        found = self._found.get(key)
        same = found is not None and found.hooks() is place.module._forward_hooks
        return found if same else None

    def note(self, key: Key, place: Place, hook: LayerHook | None, is_open: bool) -> None:
        """Remember what a place has."""
        if len(self._found) < _MOST_PLACES:
            self._found[key] = Found(weakref.ref(place.module._forward_hooks), hook, is_open)
