"""Tell what a diagnosis looked at and what it did not: "nothing found" means no more than that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fmstats.diagnosis.findings import NotEnoughData
from fmstats.diagnosis.measures import Measure
from fmstats.output.tables import format_plural, make_printable, name_some

_NAMED = 3  # layers in one text


@dataclass(frozen=True)
class Scope:
    """Tells what was looked at.

    Attributes:
        looked: it in words, such as "52 layers, 20 of 23 rules, 5,000 samples".
        gaps: what was not looked at, one text each; empty if everything was.
    """

    looked: str
    gaps: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Return whether every rule could judge every layer that was chosen."""
        return not self.gaps


def describe_scope(
    layers: int,
    rules: Sequence[str],
    measures: Mapping[str, Measure],
    not_measured: Sequence[str],
    lacking: Sequence[NotEnoughData],
    unseen: Sequence[str],
    unmasked: Sequence[str],
    unmeasured: Mapping[str, str],
) -> Scope:
    """Describe what a diagnosis looked at; the arguments are its attributes."""
    judged = len(rules) - len(unmeasured)
    number = f"{judged} of {len(rules)}" if unmeasured else str(judged)
    samples = measures["samples"].value
    seen = (
        "an unknown number of samples" if samples is None else format_plural(int(samples), "sample")
    )
    looked = f"{format_plural(layers, 'layer')}, {number} rules, {seen}"
    gaps = _list_gaps(not_measured, lacking, unseen, unmasked, unmeasured)
    return Scope(looked, tuple(gaps))


def _list_gaps(
    not_measured: Sequence[str],
    lacking: Sequence[NotEnoughData],
    unseen: Sequence[str],
    unmasked: Sequence[str],
    unmeasured: Mapping[str, str],
) -> Iterator[str]:
    if not_measured:
        named = name_some(list(map(make_printable, not_measured)), _NAMED)
        yield f"{_count(len(not_measured), 'layer')} not measured, or not in full ({named})"
    if unseen:
        yield f"operations in {format_plural(len(unseen), 'part')} of the model could not be seen"
    if unmasked:
        yield f"{_count(len(unmasked), 'layer')} counted without the mask"
    if lacking:
        layers = len({row.layer for row in lacking})
        rules = len({row.rule for row in lacking})
        yield (
            f"{format_plural(layers, 'layer')} had too little data for "
            f"{format_plural(rules, 'rule')}"
        )
    for measure in dict.fromkeys(unmeasured.values()):
        names = [rule for rule, needed in unmeasured.items() if needed == measure]
        need = "needs" if len(names) == 1 else "need"
        yield f"{', '.join(names)} {need} measure={measure!r}"


def _count(number: int, what: str) -> str:
    return f"{format_plural(number, what)} {'was' if number == 1 else 'were'}"
