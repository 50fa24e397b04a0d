"""Track a model that is compiled for a GPU that is not there; print what Inductor made, as JSON.

    python -m fused.hooked "ResNet-18" [--apart]

The hooks are those of `fmstats.track`, within another module so that those of passes are in the
graph. Only what would lie on the GPU is pretended: the memory of states and the clock. `--apart`
keeps the statistics out of the kernels. Run as a process of its own: the guard has to be loaded
before torch.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Sequence

from fused import fake_gpu  # before torch

# isort: split
import torch
from models import MODELS
from torch import Tensor, nn

import fmstats
from fmstats.graph_ops import lowering
from fused.measure import Around, Compiler, pretend_meters
from fused.nets import NETS

COUNTED = ("observe", "fold", "begin_pass_in_graph", "mark_pass_boundary", "hand_over")


def build(name: str) -> tuple[nn.Module, Tensor]:
    """Return a model in bfloat16 and a batch for it; images are channels_last."""
    if name in NETS:
        model, batch = NETS[name].build(), torch.empty(NETS[name].shape, device="meta")
    else:
        model, batch = MODELS[name]()
    model, batch = model.to(torch.bfloat16).eval(), batch.to("meta", torch.bfloat16)
    if batch.dim() == 4:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        batch = batch.contiguous(memory_format=torch.channels_last)
    return model, batch


def measure(name: str, apart: bool) -> dict[str, object]:
    """Compile a tracked model; return what its graph holds."""
    mode = fake_gpu.FakeTensorMode()
    model, batch = build(name)
    fake_gpu.move(model, mode)
    x = fake_gpu.fake(batch, mode)
    pretend_meters(mode)
    if apart:
        lowering.why_not = lambda x, channel_dim: "is to stay apart"
    tracker = fmstats.track(model)
    compiler = Compiler()
    compiler.install()
    options = {"triton.cudagraphs": True}
    with mode, torch.no_grad():
        torch.compile(Around(model), dynamic=False, fullgraph=True, options=options)(x)
    (code,) = compiler.codes
    found = Counter(re.findall(r"\.fmstats\.(\w+)(?:\.default)?\(", code))
    calls = {name: found[name] for name in COUNTED}
    return {
        "rows": sum(len(layer.rows) for layer in tracker.layers),
        "kernels": code.count(".run("),
        "partitions": len(re.findall(r"def partition_\d+", code)),
        "mutated_not_static": compiler.mutated_not_static,
        "reasons": sorted(set(lowering.reasons.values())),
        **calls,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Print the JSON of one model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("net", choices=[*NETS, *MODELS])
    parser.add_argument("--apart", action="store_true")
    options = parser.parse_args(argv)
    fake_gpu.pretend()
    print(json.dumps(measure(options.net, options.apart)))


if __name__ == "__main__":
    main()
