"""Experts of a mixture are called by the same numbers on all ranks that share them out.

Under expert parallelism the third module of a list may be expert 2 on one rank and expert 10 on
another: statistics of one must not join those of the other. What holds the list tells which experts
it has, in an attribute: `local_expert_indices` (Megatron-LM: all their numbers) or one of
`FIRST_EXPERT`, the number of the first.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch.nn as nn

from fmstats.models.wrappers import children_of, named_modules, read_attribute

FIRST_EXPERT = ("expert_offset", "first_expert", "experts_start_idx", "expert_start_index")
_NUMBERED = re.compile(r"(.*?\b\w*experts)\.(\d+)((?:[./].*)?)", re.DOTALL)
_LEVELS = 2  # of modules above a list of experts that may tell which these are


class ExpertName(NamedTuple):
    """The name of a layer of an expert, in its parts.

    Attributes:
        mixture: what holds the experts.
        number: of the expert.
        rest: the name within the expert, with the mark before it.
    """

    mixture: str
    number: int
    rest: str

    @classmethod
    def of(cls, name: str) -> ExpertName | None:
        """Read the name of a layer: `moe.experts.3.up` is of expert 3; None if it is of none."""
        found = _NUMBERED.fullmatch(name)
        return None if found is None else cls(found[1], int(found[2]), found[3])


def find_numbers(model: nn.Module) -> dict[str, list[int]]:
    """Return the numbers of the experts that this process holds, by the names of their lists.

    Lists that hold all experts, or have gaps for those of others, are left out: there the place of
    an expert is its number.
    """
    modules = named_modules(model)
    found = {}
    for name, module in modules.items():
        held = [child for child, _ in children_of(module) if child.isdecimal()]
        if not held or held != [str(i) for i in range(len(held))] or not name.endswith("experts"):
            continue
        above = name.split(".")
        owners = [".".join(above[: len(above) - level]) for level in range(_LEVELS + 1)]
        for owner in (modules[each] for each in owners if each in modules):
            numbers = _numbers_of(owner, len(held))
            if numbers is not None:
                found[name] = numbers
                break
    return found


def _numbers_of(owner: nn.Module, count: int) -> list[int] | None:
    told = read_attribute(owner, "local_expert_indices")
    if isinstance(told, (list, tuple, range)) and len(told) == count:
        return [int(number) for number in told]
    for name in FIRST_EXPERT:
        first = read_attribute(owner, name)
        if isinstance(first, int):
            return list(range(first, first + count))
    return None


def global_name(name: str, numbers: Mapping[str, list[int]]) -> str:
    """Return the name of a layer with the number that its expert has among those of all ranks."""
    expert = ExpertName.of(name)
    held = None if expert is None else numbers.get(expert.mixture)
    if expert is None or held is None or expert.number >= len(held):
        return name
    return f"{expert.mixture}.{held[expert.number]}{expert.rest}"


def local_name(name: str, numbers: Mapping[str, list[int]]) -> str:
    """Return the name that a layer has in this process, given that of `global_name`."""
    expert = ExpertName.of(name)
    held = None if expert is None else numbers.get(expert.mixture)
    if expert is None or held is None or expert.number not in held:
        return name
    return f"{expert.mixture}.{held.index(expert.number)}{expert.rest}"
