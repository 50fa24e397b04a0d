"""Every backend and instruction set usable here, and reproducible property tests."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, settings

from fmstats.backends import BACKENDS, Backend
from fmstats.backends.cpu import CpuBackend

settings.register_profile(
    "house", deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
settings.load_profile("house")


def usable_backends() -> dict[str, Backend]:
    """Backends by test id; the cpu backend once for each instruction set of this processor."""
    backends = {b.name: b for b in BACKENDS if b.name != "cpu" and b.why_not() is None}
    cpu = CpuBackend()
    if cpu.why_not() is None:
        backends |= {f"cpu-{isa}": CpuBackend(isa) for isa in cpu.isas}
    return backends


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        backends = usable_backends()
        metafunc.parametrize("backend", backends.values(), ids=backends.keys())


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
