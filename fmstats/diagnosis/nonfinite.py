"""Find NaN and infinities, and the layers that produced them.

A profile knows the forward pass in which a layer first had some, and the order of execution, not
which layer feeds which. What can be said is therefore "likely" or "unsure":

- The producer is the first layer, in the order of execution, of those that had some in the earliest
  step and pass: all that was measured before it was finite until then. Unsure if it is the first
  layer of all, since the model's own input is not measured. Where passes are not known, as in
  profiles of fmstats 0.1, the order of execution decides alone.
- A layer that had some in a later pass, and none before it in that pass, perhaps received them: an
  optimizer turns a NaN into weights that are NaN. A fault of its own looks the same.
- A later layer of the pass received them, if the layer right before it had some by then, too.
- It made its own, likely, if it has infinities where only NaN came before: no arithmetic turns NaN
  into an infinity.
- It made its own, unsure, if the layer right before it was finite: a branch may go around that one.

Minus infinity alone, among numbers far from the end of their format, is what a mask leaves, or the
logarithm of 0: it is no fault where it goes no further, since what runs next is finite.

More of them than before proves nothing: a convolution, measured or not, spreads one NaN over its
window and over all its channels. An operation that is not measured counts as part of the layer that
follows it. Of inputs and of gradients, new ones came from the layer that ran just before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fmstats.diagnosis.formats import LARGEST
from fmstats.diagnosis.observed import FindingText, Mask, Observed, Verdict, name_channels
from fmstats.diagnosis.silent import TWO_SIDED
from fmstats.diagnosis.thresholds import RuleThresholds

# What overflows leaves finite numbers near the end of the format behind.
_FAR = 1 / 16


@dataclass(frozen=True)
class Origin:
    """Says where the non-finite numbers of a layer come from.

    Attributes:
        severity: of the finding; a warning where they were received, or may have been, an info for
            masks.
        since: the layer whose non-finite numbers these follow from; None where they are new.
        certainty: "likely" or "unsure".
        producer: the layer that made them; None where it is not among those measured.
        reason: why that is thought.
    """

    severity: str
    since: str | None
    certainty: str
    producer: str | None
    reason: str


Time = tuple[int, int]  # the user's step and the forward pass, 0 where either is not known


@dataclass(frozen=True)
class _Source:
    """Is a layer with new non-finite numbers, and says where they came from."""

    name: str
    time: Time
    origin: Origin


def origins(layers: Sequence[Observed]) -> list[Origin | None]:
    """Return where the NaN and infinities of each layer come from; None where it has none."""
    found: list[Origin | None] = [None] * len(layers)
    masked = find_masks(layers)
    for layer in layers:
        if masked[layer.index]:
            since = found[layer.index - 1] if layer.index else None
            found[layer.index] = _mask(layer, layers[: layer.index], since)
    times = _times(layers, masked)
    sources: list[_Source] = []
    for time, index in sorted((time, index) for index, time in times.items()):
        layer, before = layers[index], layers[:index]
        broken = [each for each in before if each.index in times and times[each.index] <= time]
        # The last layer before it with new ones; else the one that was first of all.
        near = [source for source in sources if source.name in {each.name for each in broken}]
        if not sources:
            origin = _first(layer, before)
        elif not broken and time > sources[0].time:
            origin = _afterwards(sources[0])
        else:
            origin = _later(layer, before, broken, (near or sources)[-1])
        if origin.since is None:
            sources.append(_Source(layer.name, time, origin))
        found[index] = origin
    return found


def _times(layers: Sequence[Observed], masked: Sequence[bool]) -> dict[int, Time]:
    """Return when each layer with non-finite numbers first had some, by its index.

    Steps go before passes: what was merged may have counted its passes anew. Neither counts unless
    it is known of all these layers.
    """
    broken = [each for each in layers if each.nan + each.inf and not masked[each.index]]
    steps = _if_all_known([each.first_step for each in broken])
    passes = _if_all_known([each.first_pass for each in broken])
    times = zip(broken, steps, passes, strict=True)
    return {each.index: (step, number) for each, step, number in times}


def _if_all_known(times: Sequence[int | None]) -> list[int]:
    return [0 if None in times or time is None else time for time in times]


def find_masks(layers: Sequence[Observed]) -> list[bool]:
    """Return which layers hold -inf as a mask leaves it, and pass on nothing else non-finite."""
    masked, harmless = [], True
    for layer in reversed(layers):
        broken = layer.nan + layer.inf > 0
        harmless = not broken or (harmless and _has_only_minus_inf(layer))
        masked.append(broken and harmless)
    return masked[::-1]


def _has_only_minus_inf(layer: Observed) -> bool:
    if layer.of == "output" and layer.type in TWO_SIDED:
        return False  # arithmetic that gives -inf for finite numbers has overflowed
    end = LARGEST.get(layer.profile.dtype, LARGEST["float32"])
    seen = layer.stats.finite_count > 0
    top = float(layer.stats.abs_max[seen].max(initial=0.0))
    return int(layer.stats.neg_inf.sum()) == layer.nan + layer.inf and top < _FAR * end


def _mask(layer: Observed, before: Sequence[Observed], since: Origin | None) -> Origin:
    if since is not None and since.severity == "info":
        first = since.since or before[-1].name
        return Origin("info", first, "likely", since.producer, f"{first} before it had some")
    producer = _maker(layer, before) if before or layer.of == "output" else None
    reason = "-inf alone and finite behind it: masked, or the logarithm of 0"
    return Origin("info", None, "likely", producer, reason)


def _first(layer: Observed, before: Sequence[Observed]) -> Origin:
    if not before:
        producer = layer.name if layer.of == "output" else None
        reason = "the first layer measured: its data may have had them"
        return Origin("error", None, "unsure", producer, reason)
    masks = " but -inf" if any(earlier.inf for earlier in before) else ""
    reason = f"no layer before it had any{masks}"
    return Origin("error", None, "likely", _maker(layer, before), reason)


def _afterwards(first: _Source) -> Origin:
    """Tell of a layer with nothing broken before it in its pass, but a source in an earlier one."""
    reason = f"{first.name} had some in an earlier pass, which may be in the weights since"
    return Origin("warning", first.name, "unsure", first.origin.producer, reason)


def _later(
    layer: Observed, before: Sequence[Observed], broken: Sequence[Observed], source: _Source
) -> Origin:
    """Tell of a layer behind others, of which those that are `broken` had some by then."""
    if layer.inf and not any(earlier.inf for earlier in broken):
        reason = "infinities, where only NaN came before"
        return Origin("error", None, "likely", _maker(layer, before), reason)
    if broken[-1].index != before[-1].index:
        reason = f"{before[-1].name} right before it was finite, unless a branch went around that"
        return Origin("warning", None, "unsure", _maker(layer, before), reason)
    reason = f"{source.name} before it had some"
    return Origin("warning", source.name, "likely", source.origin.producer, reason)


def _maker(layer: Observed, before: Sequence[Observed]) -> str:
    return layer.name if layer.of == "output" else before[-1].name


def non_finite(layers: Sequence[Observed], thresholds: RuleThresholds) -> list[Verdict | None]:
    """Find layers with NaN or infinities."""
    return [_judge(layer, origin) for layer, origin in zip(layers, origins(layers), strict=True)]


def _judge(layer: Observed, origin: Origin | None) -> Verdict:
    stats = layer.stats

    def describe(where: Mask) -> FindingText:
        assert origin is not None
        message = (
            f"{name_channels(where)}: {layer.nan:,} NaN and {layer.inf:,} infinite of "
            f"{int(stats.count.sum()):,} elements{_when(layer)}, {_in_words(layer, origin)}"
        )
        numbers = {
            "nan": layer.nan,
            "pos_inf": int(stats.pos_inf.sum()),
            "neg_inf": int(stats.neg_inf.sum()),
            "role": "producer" if origin.producer == layer.name else "received",
            "certainty": origin.certainty,
            "producer": origin.producer,
            "first_pass": layer.first_pass,
            "first_step": layer.first_step,
        }
        return FindingText(message, numbers, origin.severity, follows=origin.since)

    judged = stats.count > 0
    return Verdict(judged, judged & (stats.nan + stats.pos_inf + stats.neg_inf > 0), describe)


def _when(layer: Observed) -> str:
    """Tell when a layer first had some, as ` from step 9, pass 10 on`; "" if it is not known."""
    step = "" if layer.first_step is None else f"step {layer.first_step:,}"
    number = f"pass {layer.first_pass:,}" if layer.first_pass else ""  # 0: in none of the model
    when = ", ".join(filter(None, (step, number)))
    return f" from {when} on" if when else ""


def _in_words(layer: Observed, origin: Origin) -> str:
    perhaps = "" if origin.certainty == "likely" else "perhaps "
    if origin.producer == layer.name:
        return f"{perhaps}made here ({origin.reason})"
    source = "before it" if origin.producer is None else f"by {origin.producer}"
    return f"received, {perhaps}made {source} ({origin.reason})"
