"""Every backend and instruction set usable here, and reproducible property tests."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

import arm64_host
import cuda_host
import pytest
import torch
from hypothesis import HealthCheck, settings

import fmstats.backends
from fmstats.backends import BACKENDS, Backend
from fmstats.backends.cpu import CpuBackend
from fmstats.backends.pytorch import TorchBackend
from fmstats.backends.reference import ReferenceBackend

# Inductor would run the code that it generated for an older source of ours.
os.environ.update(TORCHINDUCTOR_FX_GRAPH_CACHE="0", TORCHINDUCTOR_AUTOGRAD_CACHE="0")

settings.register_profile(
    "house", deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
settings.load_profile("house")


def usable_backends() -> dict[str, Backend]:
    """Backends for CPU tensors by test id.

    The cpu backend once for each instruction set of this processor; the cuda backend with a stub
    of the driver, its kernels run by an interpreter.
    """
    here = torch.device("cpu")
    backends = {
        b.name: b for b in BACKENDS if b.name != "cpu" and b.serves(here) and b.why_not() is None
    }
    cpu = CpuBackend()
    if cpu.why_not() is None:
        backends |= {f"cpu-{isa}": CpuBackend(isa) for isa in cpu.isas}
    if cuda_host.why_not() is None:
        cuda_host.the_stub()
        backends["cuda-interpreted"] = cuda_host.host_backend()
    return backends


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "backend" in metafunc.fixturenames:
        backends = [pytest.param(b, id=name) for name, b in usable_backends().items()]
        if arm64_host.why_not() is None:
            emulated = arm64_host.the_backend()
            backends.append(pytest.param(emulated, id="cpu-arm64", marks=pytest.mark.long))
        metafunc.parametrize("backend", backends)


@pytest.fixture
def fresh_graphs() -> Iterator[None]:
    """Nothing is compiled before the test, nor stays compiled after it."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture(autouse=True)
def _no_mode_stays() -> Iterator[None]:
    """No tracker leaves a mode or a hook of all modules behind."""
    yield
    calls = torch.nn.modules.module
    left = torch._C._len_torch_function_stack(), dict(calls._global_forward_hooks)
    while torch._C._len_torch_function_stack():  # the next test begins without
        torch._C._pop_torch_function_stack()
    calls._global_forward_hooks.clear()
    calls._global_forward_pre_hooks.clear()
    assert not any(left), f"left behind: {left}"


@pytest.fixture
def stub() -> Iterator[cuda_host.StubDriver]:
    """The stub of the CUDA driver, as new."""
    if cuda_host.why_not() is not None:
        pytest.skip(str(cuda_host.why_not()))
    stub = cuda_host.the_stub()
    stub.reset()
    yield stub
    stub.reset()


@pytest.fixture
def command_line(
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[object, str, str]]:
    """Runs a command line; returns exit code, stdout, stderr."""
    from fmstats.cli import main  # needs typer

    def run_command(*arguments: object) -> tuple[object, str, str]:
        try:
            code: object = main([str(argument) for argument in arguments])
        except SystemExit as exit_:
            code = exit_.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_command


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def cuda(stub: cuda_host.StubDriver, monkeypatch: pytest.MonkeyPatch) -> cuda_host.HostCudaBackend:
    """The cuda backend, first choice for CPU tensors."""
    cuda = cuda_host.host_backend()
    others = (cuda, TorchBackend(), ReferenceBackend())
    monkeypatch.setattr(fmstats.backends, "BACKENDS", others)
    return cuda
