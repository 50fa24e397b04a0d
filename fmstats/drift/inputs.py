"""Compare the inputs of two runs: how images were prepared, and how large inputs were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fmstats.output.tables import format_plural
from fmstats.profiles.metadata import agree, show_value
from fmstats.profiles.profile import LayerProfile, Profile

# Lengths differ by chance; a larger factor between the elements of a sample is reported.
_ALIKE = 1.1


def describe_other_preparation(now: Profile, baseline: Profile) -> list[str]:
    """Say how images were prepared differently, where both profiles note it."""
    one, other = (profile.metadata.get("inputs") for profile in (now, baseline))
    if not isinstance(one, Mapping) or not isinstance(other, Mapping) or agree(one, other):
        return []
    differing = [
        f"{key} {show_value(one.get(key))} and {show_value(other.get(key))}"
        for key in dict.fromkeys([*one, *other])
        if not agree(one.get(key), other.get(key))
    ]
    return [f"the images were prepared otherwise: {'; '.join(differing)}"]


def describe_other_sizes(
    now: Profile, baseline: Profile, layers: Sequence[str], samples: tuple[int, int]
) -> list[str]:
    """Name the layers whose tensors differ in size, or in elements per sample.

    Without a mask padding is data: batches that are padded differ from others in what every layer
    shows. With one, only what counts has a size.

    Args:
        now: the profile in question.
        baseline: what it is compared with.
        layers: that both have.
        samples: of each.
    """
    lines, masked = [], now.metadata.get("masked") is True
    for name in layers:
        both = now.info[name], baseline.info[name]
        sizes = [_size(layer) for layer in both]
        each = [_elements(layer) / n for layer, n in zip(both, samples, strict=True)]
        if sizes[0] != sizes[1] and not masked:
            lines.append(f"{name!r} gave {_name(sizes[0])}, {_name(sizes[1])} in the baseline")
        elif min(each) and max(each) > _ALIKE * min(each):
            lines.append(
                f"{name!r} gave {each[0]:,.4g} elements a channel and sample, {each[1]:,.4g} in "
                "the baseline"
            )
    if not lines:
        return []
    rest = f", so did {format_plural(len(lines) - 1, 'layer')} more" if len(lines) > 1 else ""
    what = "lengths differ" if masked else "sizes or lengths differ, and padding counts as data"
    return [f"{what}: {lines[0]}{rest}"]


def _size(layer: LayerProfile) -> tuple[int, ...]:
    """Return the shape of a tensor without its batch dim."""
    return layer.shape if layer.channel_dim == 0 else layer.shape[1:]


def _name(size: tuple[int, ...]) -> str:
    return f"({', '.join(['N', *map(str, size)])})"


def _elements(layer: LayerProfile) -> int:
    return int(layer.stats.count.max(initial=0))
