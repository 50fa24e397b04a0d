"""What Inductor is taught waits for it and does not import it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from fmstats.backends.native import why_no_native
from fmstats.graph_ops import lowering, targets

WAITS = """
import sys
from fmstats.graph_ops import lowering
lowering.when_inductor_comes()
lowering.when_inductor_comes()
print("torch._inductor" in sys.modules)
import torch, torch._inductor.compile_fx, torch._inductor.lowering as inductor
print(torch.ops.fmstats.partials.default in inductor.lowerings)
print(any(type(finder).__name__ == "_Waiting" for finder in sys.meta_path))
"""
LATE = """
import torch, torch._inductor.compile_fx, torch._inductor.lowering as inductor
from fmstats.graph_ops import lowering
lowering.when_inductor_comes()
print(torch.ops.fmstats.partials.default in inductor.lowerings)
"""


@pytest.mark.skipif(lowering.why_not_here() is not None, reason=str(lowering.why_not_here()))
@pytest.mark.parametrize(
    ("code", "said"), [(WAITS, ["False", "True", "False"]), (LATE, ["True"])], ids=["waits", "late"]
)
def test_it_is_registered_with_inductor(code: str, said: list[str]) -> None:
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.split() == said


@pytest.mark.parametrize(
    ("version", "fuses"),
    [
        *(("2.10.0+cu128", False), ("2.11.0+cu130", True), ("2.12.1", True)),
        *(("2.13.0+cpu", True), ("2.14.0a0+git1234", False)),
    ],
)
def test_versions_that_fuse(monkeypatch: pytest.MonkeyPatch, version: str, fuses: bool) -> None:
    monkeypatch.setattr("torch.__version__", version)
    why = f"torch {version} is not known to fuse: from 2.11 to below 2.14 are"
    assert lowering.why_not_here() == (None if fuses else why)


@pytest.mark.skipif(why_no_native() is not None, reason=str(why_no_native()))
@pytest.mark.skipif(lowering.why_not_here() is not None, reason=str(lowering.why_not_here()))
def test_versions_that_fuse_take_the_native_operation() -> None:
    """It measures what is not measured within a kernel."""
    assert targets.why_no_kernel("cpu") is None


FAILS = """
import torch, torch._inductor.compile_fx, torch._inductor.lowering as inductor
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
