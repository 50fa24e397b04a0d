"""This module names the fields of the statistic: what is known of each channel.

csrc/fields.h declares them, for C++ and for this module, which reads it.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from fmstats import errors


def sources() -> Path:
    """Return the folder csrc: inside an installed package, beside that of a checkout."""
    package = Path(errors.__file__).parent
    inside = package / "csrc"
    return inside if inside.exists() else package.parent / "csrc"


def _read_lists() -> dict[str, list[list[str]]]:
    """Return the entries of each list of csrc/fields.h, by its name, as their arguments."""
    text = (sources() / "fields.h").read_text().replace("\\\n", " ")
    lists = re.findall(r"^#define FMSTATS_(\w+)\(X\)(.*)$", text, re.MULTILINE)
    entries = {name: re.findall(r"X\(([^()]+)\)", body) for name, body in lists}
    return {name: [re.split(r",\s*", entry) for entry in found] for name, found in entries.items()}


_LISTS = _read_lists()


def _names(*lists: str) -> tuple[str, ...]:
    return tuple(entry[0] for name in lists for entry in _LISTS[name])


# Kinds of fields, as csrc/fields.h describes them.
NON_FINITE = _names("NON_FINITE")
COMPARISONS = _names("COMPARISONS")
PIVOTED = _names("PIVOTED")
SUMS = _names("SUMS")
EXTREMES = _names("EXTREMES")
MINIMA = tuple(entry[0] for entry in _LISTS["EXTREMES"] if entry[2] == "smaller")

# When an element that is no finite number first came: int64, the smaller of two states.
FIRSTS = _names("FIRSTS")
NEVER = 2**63 - 1

# The words of a state, in their order: counts and firsts are int64, moments float64.
COUNTS = _names("TOTAL", "NON_FINITE", "COMPARISONS")
MOMENTS = _names("MOMENTS", "SUMS", "EXTREMES")
FIELDS = COUNTS + MOMENTS + FIRSTS
# What each is of no data.
IDENTITY = dict.fromkeys(COUNTS, 0) | dict.fromkeys(MOMENTS, 0.0) | dict.fromkeys(FIRSTS, NEVER)
IDENTITY |= {field: math.inf if field in MINIMA else -math.inf for field in EXTREMES}
# The words of a part of a tensor, in theirs.
PART_FIELDS = _names("NON_FINITE", "COMPARISONS", "PIVOTED", "SUMS", "EXTREMES")

# The fields of each measure that is made on request, behind all other words: float64, 0 of no data.
REQUESTED = {
    measure: tuple(entry[0] for entry in _LISTS["REQUESTED"] if entry[2] == measure)
    for measure in dict.fromkeys(entry[2] for entry in _LISTS["REQUESTED"])
}

# The modes in which kernels are compiled, in the order of their numbers: see `Thresholds.mode`.
MODES = _names("MODES")


def comparisons_of(mode: str) -> tuple[str, ...]:
    """Return the counts of comparisons that kernels compiled in one of `MODES` make."""
    names = [entry[1] for entry in _LISTS["MODES"]]
    made = names[: MODES.index(mode) + 1]
    return tuple(entry[0] for entry in _LISTS["COMPARISONS"] if entry[2] in made)
