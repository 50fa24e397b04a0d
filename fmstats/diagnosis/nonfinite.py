"""NaN and infinities, and which layer made them.

A profile knows the order of execution, not which layer feeds which, and nothing of functional
operations between layers. What can be said is therefore "likely" or "unsure":

- The first layer with non-finite outputs is the producer: all that was measured before it was
  finite. Unsure if it is the first layer of all, since the model's own input is not measured.
- A later layer received them, if the layer right before it has some, too.
- It made its own, likely, if it has infinities where only NaN came before: no arithmetic turns NaN
  into an infinity.
- It made its own, unsure, if the layer right before it was finite: a branch may go around that one.

More of them than before proves nothing: a convolution, measured or not, spreads one NaN over its
window and over all its channels. An operation that is not measured counts as part of the layer that
follows it. Of inputs and of gradients, new ones came from the layer that ran just before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fmstats.diagnosis.limits import Limits
from fmstats.diagnosis.observed import Mask, Observed, Told, Verdict, name_channels


@dataclass(frozen=True)
class Origin:
    """Where the non-finite numbers of a layer come from.

    Attributes:
        severity: of the finding; a warning where they were received, or may have been.
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


def origins(layers: Sequence[Observed]) -> list[Origin | None]:
    """Where the NaN and infinities of each layer come from; None where it has none."""
    found: list[Origin | None] = []
    since, latest = "", None  # the last layer with new ones, and where they came from
    for layer in layers:
        origin = None
        if layer.nan + layer.inf:
            before = layers[: layer.index]
            origin = _later(layer, before, since, latest) if latest else _first(layer, before)
            if origin.since is None:
                since, latest = layer.name, origin
        found.append(origin)
    return found


def _first(layer: Observed, before: Sequence[Observed]) -> Origin:
    if not before:
        producer = layer.name if layer.of == "output" else None
        reason = "the first layer measured: its data may have had them"
        return Origin("error", None, "unsure", producer, reason)
    return Origin("error", None, "likely", _maker(layer, before), "no layer before it had any")


def _later(layer: Observed, before: Sequence[Observed], since: str, latest: Origin) -> Origin:
    if layer.inf and not any(earlier.inf for earlier in before):
        reason = "infinities, where only NaN came before"
        return Origin("error", None, "likely", _maker(layer, before), reason)
    if before[-1].nan + before[-1].inf == 0:
        reason = f"{before[-1].name} right before it was finite, unless a branch went around that"
        return Origin("warning", None, "unsure", _maker(layer, before), reason)
    return Origin("warning", since, "likely", latest.producer, f"{since} before it had some")


def _maker(layer: Observed, before: Sequence[Observed]) -> str:
    return layer.name if layer.of == "output" else before[-1].name


def non_finite(layers: Sequence[Observed], limits: Limits) -> list[Verdict | None]:
    """Layers with NaN or infinities."""
    return [_judge(layer, origin) for layer, origin in zip(layers, origins(layers), strict=True)]


def _judge(layer: Observed, origin: Origin | None) -> Verdict:
    stats = layer.stats

    def tell(where: Mask) -> Told:
        assert origin is not None
        message = (
            f"{name_channels(where)}: {layer.nan:,} NaN and {layer.inf:,} infinite of "
            f"{int(stats.count.sum()):,} elements, {_in_words(layer, origin)}"
        )
        numbers = {
            "nan": layer.nan,
            "pos_inf": int(stats.pos_inf.sum()),
            "neg_inf": int(stats.neg_inf.sum()),
            "role": "producer" if origin.producer == layer.name else "received",
            "certainty": origin.certainty,
            "producer": origin.producer,
        }
        return Told(message, numbers, origin.severity, follows=origin.since)

    judged = stats.count > 0
    return Verdict(judged, judged & (stats.nan + stats.pos_inf + stats.neg_inf > 0), tell)


def _in_words(layer: Observed, origin: Origin) -> str:
    perhaps = "" if origin.certainty == "likely" else "perhaps "
    if origin.producer == layer.name:
        return f"{perhaps}made here ({origin.reason})"
    source = "before it" if origin.producer is None else f"by {origin.producer}"
    return f"received, {perhaps}made {source} ({origin.reason})"
