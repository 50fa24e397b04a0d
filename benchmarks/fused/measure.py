"""Compile a model for a GPU that is not there and print, as JSON, what Inductor made of it.

    python -m fused.measure "ResNet-18" [--tracked] [--train] [--nchw] [--dtype float32]

Run as a process of its own: the guard has to be loaded before torch.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from fused import fake_gpu  # before torch

# isort: split
import torch
from torch import Tensor, nn

import fmstats
from fmstats.graph_ops import lowering
from fmstats.models.selection import is_leaf
from fmstats.statistic.clock import WORDS
from fmstats.statistic.fields import FIELDS
from fmstats.tracking.rows import Row
from fused.nets import NETS


class Compiler:
    """Has Inductor generate code and keeps it in place of running it.

    Attributes:
        codes: what was generated, one a graph.
        mutated_not_static: of the arguments that graphs change, those without a fixed address.
    """

    def __init__(self) -> None:
        self.codes: list[str] = []
        self.mutated_not_static = 0

    def install(self) -> None:
        import torch._inductor.config as config
        import torch._inductor.output_code as output_code
        from torch._inductor.graph import GraphLowering

        config.force_disable_caches = True
        GraphLowering.compile_to_module = lambda graph: self._keep(graph)  # type: ignore
        for name in ("cudagraph_post_compile", "cudagraph_partition_post_compile"):
            setattr(output_code, name, self._post_compile)

    def _keep(self, graph: Any) -> Any:
        code, _ = graph.codegen()
        self.codes.append(code.value)
        graph.cache_key, graph.cache_path, graph.cache_linemap = "none", "/dev/null", []

        def call(args: list[Any]) -> list[Any]:
            args.clear()
            return [_empty(output) for output in graph.graph_outputs]

        return SimpleNamespace(__file__="/dev/null", call=call)

    def _post_compile(self, inputs: Any, graph: Any, *args: Any, **kwargs: Any) -> None:
        static = set(graph.fx_kwargs.get("static_input_idxs") or ())
        self.mutated_not_static += len(set(graph.mutated_input_idxs) - static)


def _empty(output: Any) -> Tensor | None:
    try:
        size, stride = ([int(i) for i in get()] for get in (output.get_size, output.get_stride))
        return torch.empty_strided(
            size, stride, dtype=output.get_dtype(), device=output.get_device()
        )
    except (NotImplementedError, AttributeError):
        return None


class Around(nn.Module):
    """A module that holds the model: the hooks of its passes are in the graph, too."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Run the model."""
        y: Tensor = self.model(x)
        return y


def pretend_meters(mode: Any) -> None:
    """Have rows on the GPU keep their states in memory that is not there."""

    def words(count: int) -> Tensor:
        made: Tensor = fake_gpu.fake(torch.empty(count, dtype=torch.int64), mode)
        return made

    clock = SimpleNamespace(words=words(len(WORDS)))
    backend = SimpleNamespace(in_graphs=False)

    def meter_on(row: Row, device: torch.device) -> Any:
        memory = words(len(FIELDS) * row.width + 1)
        state = SimpleNamespace(
            memory=memory, held=(memory,), words=memory, measures=row._spec.measures
        )
        made = SimpleNamespace(state=state, clock=clock, plan=None, backend=backend)
        return row._meters.setdefault(device, made)  # type: ignore[arg-type]

    Row.meter_on = meter_on  # type: ignore[method-assign]


def count_elements(model: nn.Module, batch: Tensor, mode: Any) -> int:
    """Return how many elements the leaves of a model put out."""
    counts: list[int] = []
    handles = [
        leaf.register_forward_hook(lambda module, args, y: counts.append(y.numel()))
        for leaf in model.modules()
        if is_leaf(leaf)
    ]
    training = model.training
    model.eval()
    with mode, torch.no_grad():
        model(batch)
    model.train(training)
    for handle in handles:
        handle.remove()
    return sum(counts)


def measure(
    name: str, tracked: bool, train: bool, nchw: bool, dtype: torch.dtype
) -> dict[str, object]:
    """Compile a model; return what was generated and the CPU seconds it took."""
    net = NETS[name]
    mode = fake_gpu.FakeTensorMode()
    model = net.build().to(dtype).train(train)
    batch = torch.empty(net.shape, dtype=dtype, device="meta")
    if len(net.shape) == 4 and not nchw:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        batch = batch.contiguous(memory_format=torch.channels_last)
    fake_gpu.move(model, mode)
    x = fake_gpu.fake(batch, mode)
    elements = 0
    if tracked:
        elements = count_elements(model, x, mode)
        pretend_meters(mode)
        tracker = fmstats.track(model, functional=False)
    options = {"triton.cudagraphs": True}
    compiler = Compiler()
    compiler.install()
    _warm_up(mode, dtype)
    compiler.codes.clear()
    begun = time.process_time()
    with mode, torch.set_grad_enabled(train):
        y = torch.compile(Around(model), dynamic=False, fullgraph=True, options=options)(x)
        if train:
            y.sum().backward()
    seconds = time.process_time() - begun
    if tracked:
        tracker.close()
    return {
        "codes": compiler.codes,
        "cpu_seconds": seconds,
        "partitions": [len(re.findall(r"def partition_\d+", code)) for code in compiler.codes],
        "mutated_not_static": compiler.mutated_not_static,
        "elements": elements,
        "reasons": lowering.reasons,
    }


def _warm_up(mode: Any, dtype: torch.dtype) -> None:
    """Compile something small, so that what is made once in a process is made."""
    small = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.ReLU()).to(dtype).eval()
    fake_gpu.move(small, mode)
    x = fake_gpu.fake(torch.empty(2, 8, 4, 4, dtype=dtype, device="meta"), mode)
    with mode, torch.no_grad():
        torch.compile(small, dynamic=False)(x)


def main(argv: Sequence[str] | None = None) -> None:
    """Print the JSON of one model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("net", choices=list(NETS))
    parser.add_argument("--tracked", action="store_true")
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--nchw", action="store_true")
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args(argv)
    fake_gpu.pretend()
    dtype = getattr(torch, options.dtype)
    made = measure(options.net, options.tracked, options.train, options.nchw, dtype)
    print(json.dumps(made))


if __name__ == "__main__":
    main()
