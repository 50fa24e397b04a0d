"""The trail of a run tells the batches that it went through, in their order."""

from __future__ import annotations

import pytest
import torch

from fmstats.runs.trail import Trail
from fmstats.sources.batches import ModelInput

ONE, TWO = torch.zeros(3, 4), torch.ones(3, 4)


def trail(*batches: ModelInput | None) -> Trail:
    found = Trail()
    for batch in batches:
        found.add(batch)
    assert found.seen == len(batches)
    return found


def test_equal_batches_leave_equal_trails() -> None:
    batches = [ModelInput((ONE,)), ModelInput((TWO, 3), {"scale": 2.0}), None]
    again = [ModelInput((ONE.clone(),)), ModelInput((TWO.clone(), 3), {"scale": 2.0}), None]
    assert trail(*batches).digest == trail(*again).digest
    assert trail().digest == ""
    assert trail(*batches).unknown == []


def test_any_other_batches_leave_another() -> None:
    one, two = ModelInput((ONE,)), ModelInput((TWO,))
    found = [
        *(trail(), trail(one), trail(two), trail(one, two), trail(two, one), trail(one, one)),
        *(trail(None), trail(one, None), trail(None, one), trail(None, None)),
        *(trail(ModelInput((ONE, TWO))), trail(ModelInput((ONE,), {"x": TWO}))),
        *(trail(ModelInput(())), trail(ModelInput((), {"x": ONE}))),
    ]
    assert len({each.digest for each in found}) == len(found)


@pytest.mark.parametrize("times", [1, 3])
def test_what_cannot_be_told_is_named_once(times: int) -> None:
    odd = ModelInput((ONE, (number for number in range(3))))
    found = trail(ModelInput((ONE,)), *[odd] * times, ModelInput((TWO,)))
    assert len(found.unknown) == 1
    assert found.unknown[0].startswith("a batch[0][1] (")
