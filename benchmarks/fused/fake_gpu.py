"""Pretend that there is an H200, for Inductor to make graphs for it. Import this before torch.

Tensors are fake, so nothing is computed: what counts is the code that Inductor writes.
"""

from __future__ import annotations

import contextlib
import os
import types
from typing import Any

from fused import guard

guard.load()
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

import torch  # noqa: E402  # the guard is there before it
from torch import Tensor, nn  # noqa: E402
from torch._subclasses import fake_tensor  # noqa: E402
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode  # noqa: E402

DEVICE = torch.device("cuda", 0)
PROPERTIES = types.SimpleNamespace(
    name="NVIDIA H200",
    major=9,
    minor=0,
    multi_processor_count=132,
    warp_size=32,
    max_threads_per_multi_processor=2048,
    max_threads_per_block=1024,
    regs_per_multiprocessor=65536,
    total_memory=140 << 30,
    L2_cache_size=50 << 20,
    shared_memory_per_block=49152,
    shared_memory_per_block_optin=232448,
    shared_memory_per_multiprocessor=233472,
    gcnArchName="",
)


def pretend(capability: tuple[int, int] = (9, 0)) -> None:
    """Let torch, Dynamo, Inductor and Triton find one GPU of that capability."""
    PROPERTIES.major, PROPERTIES.minor = capability
    cuda: Any = torch.cuda
    cuda.is_available = lambda: True
    cuda.device_count = lambda: 1
    cuda.current_device = cuda.random.current_device = lambda: 0
    cuda.get_device_properties = lambda device=None: PROPERTIES
    cuda.get_device_capability = lambda device=None: capability
    cuda.get_device_name = lambda device=None: PROPERTIES.name
    cuda.is_bf16_supported = cuda.is_tf32_supported = lambda *args, **kwargs: True
    cuda.synchronize = lambda *args, **kwargs: None
    cuda.device = lambda *args, **kwargs: contextlib.nullcontext()
    cuda.is_initialized = lambda: True
    cuda.get_rng_state = lambda *args: torch.zeros(16, dtype=torch.uint8)
    cuda.set_rng_state = lambda *args: None
    torch._C._cuda_cudaCachingAllocator_is_enabled = lambda *args: True  # type: ignore[attr-defined]
    fake_tensors: Any = fake_tensor
    fake_tensors.init_gpu_context = lambda device: None
    _pretend_to_dynamo(cuda)
    _choose_formats()
    _trace_patterns_on_the_cpu()
    _pretend_to_triton(capability)


def _pretend_to_dynamo(cuda: Any) -> None:
    from torch._dynamo.device_interface import CudaInterface

    names = ("current_device", "device_count", "get_device_properties", "synchronize", "device")
    for name in (*names, "is_bf16_supported"):
        setattr(CudaInterface, name, staticmethod(getattr(cuda, name)))
    for name in ("get_raw_stream", "exchange_device", "maybe_exchange_device", "memory_allocated"):
        setattr(CudaInterface, name, staticmethod(lambda *args: 0))


def _choose_formats() -> None:
    """Have convolutions be cuDNN's: channels last if either operand is."""
    functions: Any = torch._C
    real = functions._conv_determine_backend_memory_format

    def choose(x: Tensor, weight: Tensor, backend: Any) -> Any:
        if x.device.type != "cuda":
            return real(x, weight, backend)
        last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(x.dim())
        operands = (x, weight) if last is not None else ()
        if any(t.is_contiguous(memory_format=last) and not t.is_contiguous() for t in operands):
            return last
        return torch.contiguous_format

    functions._conv_determine_backend_memory_format = choose


def _trace_patterns_on_the_cpu() -> None:
    """Have what Inductor runs while it compiles run on the CPU: no fake mode catches it."""
    from torch._inductor.fx_passes import joint_graph, post_grad
    from torch.utils import _pytree
    from torch.utils._python_dispatch import TorchDispatchMode

    for module in (joint_graph, post_grad):
        lazy: Any = module.lazy_init
        begin = lambda input_device=None, lazy=lazy: lazy(torch.device("cpu"))  # noqa: E731
        module.lazy_init = begin  # type: ignore[attr-defined]

    class OnCpu(TorchDispatchMode):
        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            def moved(arg: Any) -> Any:
                return torch.device("cpu") if isinstance(arg, torch.device) else arg

            args, kwargs = _pytree.tree_map(moved, (args, kwargs or {}))
            return function(*args, **kwargs)

    folder: Any = joint_graph.UniformValueConstantFolder
    deduce = folder._deduce_value

    def deduce_on_cpu(self: Any, node: Any) -> Any:
        with OnCpu():
            return deduce(self, node)

    folder._deduce_value = deduce_on_cpu


def _pretend_to_triton(capability: tuple[int, int]) -> None:
    from triton.backends.compiler import GPUTarget
    from triton.runtime.driver import driver

    class Driver:
        def get_current_target(self) -> Any:
            return GPUTarget("cuda", 10 * capability[0] + capability[1], 32)

        def get_current_device(self) -> int:
            return 0

        def get_current_stream(self, device: Any = None) -> int:
            return 0

        def get_device_capability(self, device: Any = 0) -> tuple[int, int]:
            return capability

        def get_active_torch_device(self) -> torch.device:
            return DEVICE

    driver.set_active(Driver())


def fake(x: Tensor, mode: FakeTensorMode) -> Tensor:
    """Return a tensor like this one on the GPU."""
    meta = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta")
    made: Tensor = FakeTensor(mode, meta, DEVICE)
    if isinstance(x, nn.Parameter):
        return nn.Parameter(made, requires_grad=x.requires_grad)
    return made


def move(model: nn.Module, mode: FakeTensorMode) -> nn.Module:
    """Move a model to the GPU, in place; tensors that it shares stay shared."""
    moved: dict[int, Tensor] = {}
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, x in tensors.items():
                if x is not None:
                    tensors[name] = moved.setdefault(id(x), fake(x, mode))
    return model
