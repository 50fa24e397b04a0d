"""How many samples a batch has: by the caller, by the layers, by its entries, or unknown."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fmstats.errors import FmstatsError
from fmstats.runs.counting import Counting, add_samples
from fmstats.sources.batches import ModelInput

RECURRENT = nn.GRU(3, 2)  # time-major: samples run along dim 1


def asked(model: nn.Module | None, first: ModelInput, limit: int | None = None) -> Counting:
    counting = Counting(model, limit)
    with counting.ask_layers(first), torch.no_grad():
        (model or nn.Identity())(*first.args)
    return counting


def sequences(length: int, samples: int, **known: int) -> ModelInput:
    return ModelInput((torch.zeros(length, samples, 3),), **known)


def test_layers_are_asked_in_the_first_batch_alone() -> None:
    counting = asked(RECURRENT, sequences(7, 4))
    assert [counting.count(sequences(7, n)) for n in (4, 5)] == [4, 5]
    with counting.ask_layers(sequences(7, 2)):
        assert not RECURRENT._forward_pre_hooks
    assert counting.count(sequences(9, 2)) == 2


def test_while_they_are_asked_hooks_are_there() -> None:
    with Counting(RECURRENT, None).ask_layers(sequences(7, 4)):
        assert len(RECURRENT._forward_pre_hooks) == 1
    assert not RECURRENT._forward_pre_hooks


def test_what_the_caller_says_comes_first() -> None:
    counting = Counting(RECURRENT, None)
    with counting.ask_layers(sequences(7, 4, batch_dim=0)):
        assert not RECURRENT._forward_pre_hooks
    assert counting.count(sequences(7, 4, batch_dim=0)) == 7
    later = asked(RECURRENT, sequences(7, 4))
    assert later.count(sequences(7, 4, batch_dim=0)) == 7
    assert later.count(sequences(7, 4)) == 4


def test_without_layers_the_entries_count_or_nothing_does() -> None:
    pair = ModelInput((torch.zeros(6, 3), torch.zeros(6)))
    for model in (None, nn.Identity()):
        counting = asked(model, ModelInput((torch.zeros(6, 3),)))
        assert counting.count(pair) == pair.samples == 6
        assert counting.count(ModelInput((torch.zeros(6, 3),))) is None


def test_a_limit_holds_where_all_say_the_same() -> None:
    def refuse(limit: int | None, *shapes: tuple[int, ...], model: nn.Module) -> None:
        batch = ModelInput(tuple(map(torch.zeros, shapes)))
        counting = Counting(model, limit)
        with counting.ask_layers(batch), torch.no_grad():
            model(batch.args[0])
        counting.check_limit(batch)

    square = (4, 4, 3), (4, 1)
    refuse(9, *square, model=RECURRENT)
    refuse(None, (7, 4, 3), (7, 1), model=RECURRENT)
    with pytest.raises(
        FmstatsError, match=r"size 7 along dim 0, .* samples along dim 1: give batch_dim=1"
    ):
        refuse(9, (7, 4, 3), (7, 1), model=RECURRENT)
    with pytest.raises(
        FmstatsError, match=r"size 3 along dim 0, .* as one sample: leave limit= out"
    ):
        refuse(9, (3, 8, 8), (3, 1), model=nn.Conv2d(3, 2, 3))


def test_a_limit_of_batches_that_no_layer_tells_of() -> None:
    pair = ModelInput((torch.zeros(6, 3), torch.zeros(6)))
    Counting(None, 5).check_limit(pair)


def test_numbers_of_samples_add_up_where_all_are_known() -> None:
    assert [add_samples(), add_samples(3), add_samples(0, 2, 5)] == [0, 3, 7]
    assert [add_samples(None), add_samples(3, None), add_samples(None, 0)] == [None] * 3
