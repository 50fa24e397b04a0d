"""`Runtime` asks torch what it knows of GPUs and streams."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fmstats.backends.cuda.driver import capture_of, open_context


@dataclass(frozen=True)
class Gpu:
    """A `Gpu` holds what is to be known of a GPU.

    Attributes:
        capability: (major, minor).
    """

    name: str
    capability: tuple[int, int]
    multiprocessors: int


class Runtime:
    """A runtime asks torch about GPUs and streams; tests put their own in its place.

    Attributes:
        device_type: of torch's devices.
        dlpack_type: the same as DLPack numbers it.
    """

    device_type = "cuda"
    dlpack_type = 2

    def __init__(self) -> None:
        self._contexts: dict[int, int] = {}

    def why_not(self) -> str | None:
        """Tell why torch has no GPU here, or None if it has one."""
        if torch.version.cuda is None:
            return f"PyTorch {torch.__version__} is built without CUDA"
        if not torch.cuda.is_available():
            return "no NVIDIA driver or no GPU was found"
        return None

    def gpu(self, index: int) -> Gpu:
        """Describe GPU number `index`."""
        found = torch.cuda.get_device_properties(index)
        return Gpu(found.name, (found.major, found.minor), found.multi_processor_count)

    def stream(self, index: int) -> int:
        """Return the handle of the current stream."""
        return int(torch.cuda.current_stream(index).cuda_stream)

    def capture(self, index: int) -> int | None:
        """Return the number of the graph capture that the current stream is in, or None."""
        if index not in self._contexts:
            self._contexts[index] = open_context(index)
        return capture_of(self.stream(index), self._contexts[index])

    def follow(self, index: int, stream: int, memory: Tensor) -> None:
        """Let the current stream wait for `stream`; `memory` is not reused before it is done."""
        current = torch.cuda.current_stream(index)
        # A handle of 0 would make a new stream of it.
        previous = (
            torch.cuda.ExternalStream(stream, device=index)  # type: ignore[no-untyped-call]
            if stream
            else torch.cuda.default_stream(index)
        )
        current.wait_stream(previous)
        memory.record_stream(current)

    def wait(self, index: int) -> None:
        """Return when all streams of a GPU, graphs replayed on them included, are done."""
        torch.cuda.synchronize(index)
