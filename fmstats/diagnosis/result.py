"""Hold the result of a diagnosis: findings, what could not be judged, and measures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from fmstats.diagnosis.findings import Finding, NotEnoughData
from fmstats.diagnosis.measures import LayerMeasures, Measure
from fmstats.diagnosis.rules import RULES, list_rules
from fmstats.diagnosis.scope import Scope, describe_scope
from fmstats.diagnosis.text import format_findings
from fmstats.output.tables import make_printable
from fmstats.profiles.gaps import describe_unmasked
from fmstats.profiles.updates import OF_PARAMETERS

SCHEMA = 1  # of `Diagnosis.to_dict`


@dataclass(frozen=True)
class Diagnosis:
    """Holds all findings, gravest first, then in the order of execution; false without any.

    Attributes:
        findings: what holds, and where.
        not_enough_data: where a rule says neither yes nor no.
        rules: the names of the rules that were applied.
        thresholds: every threshold by name.
        measures: numbers of the whole model by name, as `--fail-on` takes them.
        layers: how many layers the profile has.
        unseen: parts of the model whose operations could not be followed, with the reason: what is
            wrong in them is not found.
        unmasked: layers with tensors that were counted whole, though a mask was given: padding may
            be in what is said of them.
        unmeasured: the measure that a rule would need and no layer has, by rule: nothing is judged
            by it.
        not_measured: the chosen layers that have no statistics, or not of all of their tensors.
        by_layer: the measures of each layer, as conditions with `@` take them.

    Examples:
        >>> import fmstats, torch
        >>> model = torch.nn.Sequential(torch.nn.ReLU())
        >>> profile = fmstats.profile(model, torch.full((400, 2), torch.nan), progress=False)
        >>> diagnosis = fmstats.diagnose(profile)
        >>> len(diagnosis), diagnosis.findings[0].rule
        (1, 'non-finite')
    """

    findings: list[Finding]
    not_enough_data: list[NotEnoughData]
    rules: tuple[str, ...]
    thresholds: Mapping[str, float]
    measures: Mapping[str, Measure]
    layers: int
    unseen: tuple[str, ...] = ()
    unmasked: tuple[str, ...] = ()
    unmeasured: Mapping[str, str] = field(default_factory=dict)
    by_layer: tuple[LayerMeasures, ...] = ()
    not_measured: tuple[str, ...] = ()

    @property
    def scope(self) -> Scope:
        """Return what was looked at, and what was not."""
        return describe_scope(
            self.layers,
            self.rules,
            self.measures,
            self.not_measured,
            self.not_enough_data,
            self.unseen,
            self.unmasked,
            self.unmeasured,
        )

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __len__(self) -> int:
        return len(self.findings)

    def __str__(self) -> str:
        return self.describe()

    def describe(self, *, infos: bool | None = None) -> str:
        """Return the findings by rule, gravest first, and what could not be judged.

        Args:
            infos: whether findings for information are shown, and not only counted; None: if rules
                were chosen by name.
        """
        if not self.layers:
            return "no layer was measured: nothing can be said"
        shown = not self._has_all_rules if infos is None else infos
        text = format_findings(self.findings, self.not_enough_data, self.rules, infos=shown)
        return "\n".join([text, *self._describe_all_unjudged()])

    @property
    def _has_all_rules(self) -> bool:
        """Return whether no rule was chosen by name."""
        return self.rules in (list_rules("output"), list_rules(OF_PARAMETERS))

    def _describe_all_unjudged(self) -> Iterator[str]:
        yield from self._describe_unmeasured()
        yield from self._describe_unseen()
        yield from self._describe_unmasked()

    def _describe_unmeasured(self) -> list[str]:
        """Name the rules that were chosen by name, or by measuring for some of their kind."""
        of_kind = [name for name in self.rules if RULES[name].needs]
        if not self.unmeasured or (len(self.unmeasured) == len(of_kind) and self._has_all_rules):
            return []
        by_measure: dict[str, list[str]] = {}
        for rule, measure in self.unmeasured.items():
            by_measure.setdefault(measure, []).append(rule)
        named = [f"{', '.join(rules)} by measure={m!r}" for m, rules in by_measure.items()]
        return ["", f"Not judged, since not measured: {'; '.join(named)}"]

    def _describe_unseen(self) -> list[str]:
        lines = [f"  {make_printable(part)}" for part in self.unseen]
        return ["", "Not seen, so that nothing is said of it", *lines] if lines else []

    def _describe_unmasked(self) -> list[str]:
        line = describe_unmasked(self.unmasked)
        return ["", line] if line else []

    def to_dict(self) -> dict[str, Any]:
        """Return plain lists, numbers and strings in the schema of docs/diagnose.md."""
        return {
            "schema": SCHEMA,
            "layers": self.layers,
            "rules": list(self.rules),
            "thresholds": dict(self.thresholds),
            "measures": {name: asdict(measure) for name, measure in self.measures.items()},
            "findings": [
                {**asdict(finding), "channels": list(finding.channels)} for finding in self.findings
            ],
            "unseen": list(self.unseen),
            "unmasked": list(self.unmasked),
            "unmeasured": dict(self.unmeasured),
            "looked_at": self.scope.looked,
            "not_looked_at": list(self.scope.gaps),
            "not_enough_data": [asdict(row) for row in self.not_enough_data],
        }
