"""The lowering of `observe` waits for Inductor and does not import it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fmstats.graph_ops import lowering

WAITS = """
import sys
from fmstats.graph_ops import lowering
lowering.when_inductor_comes()
lowering.when_inductor_comes()
print("torch._inductor" in sys.modules)
import torch, torch._inductor.lowering as inductor
print(torch.ops.fmstats.observe.default in inductor.lowerings)
print(any(type(finder).__name__ == "_Waiting" for finder in sys.meta_path))
"""
LATE = """
import torch, torch._inductor.lowering as inductor
from fmstats.graph_ops import lowering
lowering.when_inductor_comes()
print(torch.ops.fmstats.observe.default in inductor.lowerings)
"""


@pytest.mark.skipif(lowering.why_not_here() is not None, reason=str(lowering.why_not_here()))
@pytest.mark.parametrize(
    ("code", "said"), [(WAITS, ["False", "True", "False"]), (LATE, ["True"])], ids=["waits", "late"]
)
def test_it_is_registered_with_inductor(code: str, said: list[str]) -> None:
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == said


def test_other_versions_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.__version__", "2.12.1+cpu")
    assert "torch 2.12.1" in str(lowering.why_not_here())


FAILS = """
import torch, torch._inductor.lowering as inductor
from fmstats.graph_ops import lowering
def fail(*args, **kwargs): raise TypeError("it takes no such argument")
inductor.register_lowering = fail
lowering.when_inductor_comes()
print(lowering.why_not_here())
"""


@pytest.mark.skipif(lowering.why_not_here() is not None, reason=str(lowering.why_not_here()))
def test_inductor_goes_on_without_it() -> None:
    """What is not public may change: then the operation stays, and coverage tells why."""
    command = [sys.executable, "-W", "ignore", "-c", FAILS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "does not take the lowering: TypeError('it takes no such argument')" in done.stdout
