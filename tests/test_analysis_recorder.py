"""Memory by lifetimes: by hand for small nets, and against what torch's allocator reports."""

from __future__ import annotations

import analysis_models
import pytest
import torch
import torch.nn.functional as F
from test_analysis_formulas import Doing
from torch import Tensor, nn

import fmstats

KIB = 1024
X = (1, 256)  # 1 KiB of float32


def peak_of(net: nn.Module, *sizes: tuple[int, ...], device: str = "meta") -> int:
    found = fmstats.analyze(net.eval(), input_size=list(sizes or [X]), device=device)
    return int(found.totals["peak_activation_bytes"])


def allocated_at_most(net: nn.Module, x: Tensor) -> int:
    """Bytes that a real pass allocates at once, from the events of torch's profiler."""
    here = [torch.profiler.ProfilerActivity.CPU]
    with torch.no_grad():
        net(x)  # What a first pass sets up is no activation.
        with torch.profiler.profile(activities=here, profile_memory=True) as profiler:
            net(x)
    results = profiler.profiler.kineto_results  # type: ignore[union-attr]
    events = [(e.start_ns(), e.nbytes()) for e in results.events() if e.name() == "[memory]"]
    live = highest = 0
    for _, size in sorted(events):
        live += size
        highest = max(highest, live)
    return highest


class Named(nn.Module):
    """Holds what Python's names hold, as forward passes do."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(256, 256, bias=False), nn.Linear(256, 256, bias=False)
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "rebound":
            x = self.a(x)
            x = self.b(x)
            return self.a(x)
        if self.kind == "kept":
            y = self.a(x)
            z = self.b(y)
            return self.a(z) + y
        if self.kind == "skip":
            return x + self.b(F.relu(self.a(x)))
        if self.kind == "concatenation":
            return torch.cat([self.a(x), self.b(x)], dim=1)
        if self.kind == "views":
            y = self.a(x).view(16, 16).T.unsqueeze(0)[:, 1:]
            return y.flatten(2).narrow(1, 0, 4)
        if self.kind == "in place":
            return self.a(x).relu_().sigmoid_().neg_()
        y = self.a(x)  # deleted before the peak
        z = y.sum()
        del y
        return self.b(x) * z


BY_HAND = {
    # What goes in and what comes out of a layer; the input is the caller's.
    "rebound": 2 * KIB,
    "kept": 4 * KIB,  # y, z, a(z), the sum
    "skip": 2 * KIB,  # relu(a), b; then b, the sum
    "concatenation": 4 * KIB,
    "views": 1 * KIB,
    "in place": 1 * KIB,
    "deleted": 2 * KIB + 4,  # b(x), the product, a scalar
}


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("kind", BY_HAND)
def test_lifetimes_by_hand(kind: str, device: str) -> None:
    assert peak_of(Named(kind), device=device) == BY_HAND[kind]


@pytest.mark.parametrize("in_place", [False, True])
def test_a_relu_in_place_needs_no_buffer(in_place: bool) -> None:
    net = nn.Sequential(nn.Linear(256, 512), nn.ReLU(in_place), nn.Linear(512, 256))
    # While the ReLU runs, its input and output are 2 KiB each; else 2 KiB and 1 KiB.
    assert peak_of(net) == (3 if in_place else 4) * KIB


@pytest.mark.parametrize("kind", BY_HAND)
def test_lifetimes_are_those_of_the_allocator(kind: str) -> None:
    net = Named(kind).eval()
    x = torch.randn(64, 256)
    if kind == "views":
        x = x[:1].clone()
    assert fmstats.analyze(net, x).totals["peak_activation_bytes"] == allocated_at_most(net, x)


MEASURED = {
    "MLP": lambda: (
        nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 256), nn.Softmax(-1)),
        torch.randn(16, 64),
    ),
    "GRU": lambda: (nn.GRU(8, 16, 2), torch.randn(5, 3, 8)),
    "ViT": lambda: (
        analysis_models.from_transformers(
            "ViT", num_hidden_layers=2, hidden_size=64, num_attention_heads=4, image_size=64
        ),
        torch.randn(2, 3, 64, 64),
    ),
}


@pytest.mark.parametrize("name", MEASURED)
def test_peaks_are_those_of_the_allocator(name: str) -> None:
    """Of convolutions as well if they are patches: others have work space on a CPU."""
    if name == "ViT":
        pytest.importorskip("transformers", reason="needs transformers")
    net, x = MEASURED[name]()
    net.eval()
    assert fmstats.analyze(net, x).totals["peak_activation_bytes"] == allocated_at_most(net, x)


def test_nothing_stays_alive_but_the_output() -> None:
    from fmstats.analysis.recorder import Recorder

    x = torch.zeros(4, 4)
    recorder = Recorder("model")
    recorder.feed([x])
    with recorder:
        y = (x + 1) * 2
        z = y.view(16)
        del y
    assert (recorder._live, recorder.peak) == (64, 128)
    del z
    assert (recorder._live, len(recorder._buffers)) == (0, 1)


def traffic_of(net: nn.Module, *sizes: tuple[int, ...], **options: object) -> int:
    return int(fmstats.analyze(net, input_size=list(sizes), **options).totals["traffic_bytes"])


def test_traffic() -> None:
    assert traffic_of(nn.Linear(8, 4), (3, 8)) == 4 * (3 * 8 + 8 * 4 + 4 + 3 * 4)
    assert traffic_of(nn.ReLU(), (3, 8)) == 4 * 2 * 24
    assert traffic_of(Doing(lambda x: x.view(-1)), (3, 8)) == 0
    assert traffic_of(Doing(lambda x: x + x[:1].expand(3, 8)), (3, 8)) == 4 * (24 + 24 + 24)
    # Of a table, a gather reads what it gives.
    table = nn.Embedding(100_000, 8)
    assert traffic_of(table, (3, 5), dtype=torch.long) == 15 * (8 + 4 * 8 + 4 * 8)
    # Of a small one no more than it has.
    assert traffic_of(nn.Embedding(2, 8), (3, 5), dtype=torch.long) == 15 * (8 + 4 * 8) + 4 * 16


def test_an_expanded_operand_has_the_bytes_of_its_memory() -> None:
    made = 24 + 8  # of the sum
    assert traffic_of(Doing(lambda x: x + x.sum(0).expand(3, 8)), (3, 8)) == 4 * (
        made + 24 + 8 + 24
    )


def test_buffers_of_a_block_are_counted_once() -> None:
    def block(x: Tensor) -> Tensor:
        y = x * 2  # 24 elements
        y += 1
        return torch.cat([y.view(24), y.relu().flatten()])  # 24 and 48

    rows = fmstats.analyze(nn.Sequential(nn.Linear(8, 8), Doing(block)), input_size=(3, 8)).rows
    assert [row.activation_elements for row in rows] == [24, 48]  # a leaf: of its output

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(8, 8)

        def forward(self, x: Tensor) -> Tensor:
            return block(self.inner(x))

    rows = fmstats.analyze(Block(), input_size=(3, 8)).rows
    assert [(row.name, row.activation_elements) for row in rows] == [
        ("inner", 24),
        ("(model)", 24 + 24 + 48),
    ]


def test_complex_numbers_are_activations() -> None:
    net = Doing(lambda x: torch.fft.rfft2(x))
    for device in ("meta", "cpu"):
        row = fmstats.analyze(net, input_size=(2, 8, 8), device=device).rows[0]
        assert (row.output_shape, row.activation_bytes) == ((2, 8, 5), 2 * 8 * 5 * 8)


def test_sparse_tensors_have_no_storage_to_follow() -> None:
    net = nn.Sequential(nn.Linear(4, 4), Doing(lambda x: x.to_sparse().to_dense() + 1))
    assert fmstats.analyze(net, input_size=(4, 4), device="cpu").totals["flops"] == 128
