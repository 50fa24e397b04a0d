"""The log of a run distinguishes the batches that it read, and their order."""

from __future__ import annotations

import pytest
import torch

from fmstats.runs.batch_log import BatchLog
from fmstats.sources.batches import ModelInput

ONE, TWO = torch.zeros(3, 4), torch.ones(3, 4)


def log_of(*batches: ModelInput | None) -> BatchLog:
    found = BatchLog()
    for batch in batches:
        found.add(batch)
    assert found.seen == len(batches)
    return found


def test_equal_batches_leave_equal_trails() -> None:
    batches = [ModelInput((ONE,)), ModelInput((TWO, 3), {"scale": 2.0}), None]
    again = [ModelInput((ONE.clone(),)), ModelInput((TWO.clone(), 3), {"scale": 2.0}), None]
    assert log_of(*batches).digest == log_of(*again).digest
    assert log_of().digest == ""
    assert log_of(*batches).unknown == []


def test_any_other_batches_leave_another() -> None:
    one, two = ModelInput((ONE,)), ModelInput((TWO,))
    found = [
        *(
            log_of(),
            log_of(one),
            log_of(two),
            log_of(one, two),
            log_of(two, one),
            log_of(one, one),
        ),
        *(log_of(None), log_of(one, None), log_of(None, one), log_of(None, None)),
        *(log_of(ModelInput((ONE, TWO))), log_of(ModelInput((ONE,), {"x": TWO}))),
        *(log_of(ModelInput(())), log_of(ModelInput((), {"x": ONE}))),
    ]
    assert len({each.digest for each in found}) == len(found)


@pytest.mark.parametrize("times", [1, 3])
def test_what_cannot_be_told_is_named_once(times: int) -> None:
    odd = ModelInput((ONE, (number for number in range(3))))
    found = log_of(ModelInput((ONE,)), *[odd] * times, ModelInput((TWO,)))
    assert len(found.unknown) == 1
    assert found.unknown[0].startswith("a batch[0][1] (")
