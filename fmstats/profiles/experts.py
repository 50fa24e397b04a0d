"""These functions are of the rows of a mixture of experts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from fmstats.models.experts import ExpertName
from fmstats.profiles.layer_profile import LayerProfile


def add_idle(rows: Mapping[str, LayerProfile], layers: Iterable[str]) -> dict[str, LayerProfile]:
    """Return rows with one of no element for each expert that no token came to.

    It is as that of the first expert that has one for the same layer within, so that the profiles
    of two runs have the same rows whatever the tokens were.

    Args:
        rows: of a profile.
        layers: the names of all layers that were to be measured.
    """
    measured = {row.layer or name: (name, row) for name, row in rows.items()}
    alike: dict[tuple[str, str], tuple[str, LayerProfile]] = {}
    for layer, found in measured.items():
        expert = ExpertName.of(layer)
        if expert is not None and found[1].call is None and found[0] == layer:
            alike.setdefault((expert.mixture, expert.rest), found)
    added = dict(rows)
    for layer in layers:
        expert = ExpertName.of(layer)
        like = None if expert is None else alike.get((expert.mixture, expert.rest))
        if like is not None and layer not in measured and layer not in added:
            stats = like[1].stats.of_nothing()
            added[layer] = replace(like[1], calls=0, unmasked=0, stats=stats, layer=layer)
    return added


def share_tokens(rows: Mapping[str, LayerProfile]) -> dict[str, dict[int, float]]:
    """Return the share of tokens that came to each expert, by mixture and number.

    Tokens are counted by the first layer within that any expert has a row of; a token that goes to
    two experts counts for both.
    """
    counts: dict[str, dict[int, int]] = {}
    first: dict[str, str] = {}
    for name, row in rows.items():
        expert = ExpertName.of(row.layer or name)
        if expert is None or not row.stats.channels:
            continue
        if first.setdefault(expert.mixture, expert.rest) == expert.rest:
            known = counts.setdefault(expert.mixture, {})
            known[expert.number] = known.get(expert.number, 0) + int(row.stats.count[0])
    return {
        mixture: {number: count / sum(known.values()) for number, count in sorted(known.items())}
        for mixture, known in counts.items()
        if sum(known.values())
    }
