"""A look at a model leaves it, its arguments and the process as they were."""

from __future__ import annotations

import keeping_models
import pytest
from keeping_models import MODELS
from snapshot import Snapshot

import fmstats

DEVICES = pytest.mark.parametrize("device", ["meta", "cpu"])


@DEVICES
@pytest.mark.parametrize("name", MODELS)
def test_analyze_leaves_all_as_it_was(name: str, device: str) -> None:
    model, inputs = MODELS[name]()
    before = Snapshot(model, inputs, vars(keeping_models))
    fmstats.analyze(model, *inputs, device=device)
    before.check()
