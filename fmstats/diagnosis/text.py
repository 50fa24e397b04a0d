"""A diagnosis as people read it: rule by rule, each story once, the long tail counted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fmstats.diagnosis.rules import RULES
from fmstats.diagnosis.stories import Chapter, gather_lacks, tell_stories
from fmstats.output.tables import format_plural, make_printable, name_some

if TYPE_CHECKING:
    from fmstats.diagnosis.result import Diagnosis, NotEnoughData

# Layers shown of one rule: what is only for information must not bury what is wrong.
MOST_SHOWN = {"error": 20, "warning": 20, "info": 3}
_NAMED = 3  # layers named in a line
_REASONS = 4  # shown of why there is no verdict


def format_diagnosis(diagnosis: Diagnosis) -> str:
    """The findings by severity and rule, what to do, and where there was not enough data."""
    if not diagnosis.layers:
        return "no layer was measured: nothing can be said"
    blocks = list(map(_format_chapter, tell_stories(diagnosis))) or ["nothing found"]
    if diagnosis.not_enough_data:
        blocks.append(_format_lacking(diagnosis.not_enough_data))
    return "\n".join(blocks)


def _format_chapter(chapter: Chapter) -> str:
    stories = chapter.stories
    lines = [
        f"{chapter.severity:<8} {chapter.rule}, {format_plural(len(stories), 'layer')}",
        f"  do: {RULES[chapter.rule].advice}",
    ]
    shown = stories[: MOST_SHOWN[chapter.severity]]
    width = max(len(story.finding.layer) for story in shown)
    for story in shown:
        again = f"; again in {_name(story.again)}" if story.again else ""
        line = f"  {story.finding.layer:<{width}}  {story.finding.message}{again}"
        lines.append(make_printable(line))
    if len(stories) > len(shown):
        rest = [story.finding.layer for story in stories[len(shown) :]]
        lines.append(f"  and in {_name(rest)}")
    return "\n".join(lines)


def _format_lacking(rows: Sequence[NotEnoughData]) -> str:
    lacks = gather_lacks(rows)
    lines = ["not enough data"]
    for lack in lacks[:_REASONS]:
        without = f"no verdict on {', '.join(lack.rules)}"
        lines.append(f"  {lack.reason}: {_name(lack.layers)}; {without}")
    if len(lacks) > _REASONS:
        rest = {layer for lack in lacks[_REASONS:] for layer in lack.layers}
        lines.append(f"  and {format_plural(len(rest), 'layer')} more")
    return "\n".join(lines)


def _name(layers: Sequence[str]) -> str:
    named = name_some([make_printable(layer) for layer in layers], _NAMED)
    return f"{format_plural(len(layers), 'layer')} ({named})"
