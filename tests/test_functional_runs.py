"""Functional operations in threads, on ranks, in graphs, in replicas, in modules of torch."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import fmstats


class Net(nn.Module):
    """The rows of its functions are `(model)/relu`, `(model)/add`."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(3, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.first(x))
        y: Tensor = self.last(x)
        return x + y


ROWS = ["(model)/relu", "(model)/add"]


def functions_of(tracker: fmstats.Tracker) -> dict[str, int]:
    """The rows of functions, and how many tensors each has measured."""
    return {name: row.calls for name, row in tracker.stats().info.items() if "/" in name}


def batches(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(5, 3, generator=generator) for _ in range(count)]


def test_threads_lose_nothing() -> None:
    """Each thread follows passes of its own; a place has one row, whoever comes first."""
    model, data = Net(), batches(40)
    with torch.no_grad(), fmstats.track(model) as tracker:
        for x in data:
            model(x)
    serial = tracker.stats()
    with fmstats.track(model) as tracker, ThreadPoolExecutor(4) as pool:
        list(pool.map(model, data))
    assert functions_of(tracker) == dict.fromkeys(ROWS, 40)
    for name in ROWS:
        one, many = serial[name], tracker.stats()[name]
        assert many.count.tolist() == one.count.tolist()
        assert many.zeros.tolist() == one.zeros.tolist()
        assert many.max.tolist() == one.max.tolist()


@pytest.fixture
def alone(tmp_path: object) -> Iterator[None]:
    """A group of one rank."""
    if not dist.is_available() or not dist.is_gloo_available():
        pytest.skip("needs torch.distributed with gloo")
    dist.init_process_group("gloo", f"file://{tmp_path}/ranks", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("inside", [False, True])
def test_rows_under_ddp(inside: bool) -> None:
    """They have the names of the model, whether it is tracked or what wraps it."""
    model = Net()
    wrapped = DistributedDataParallel(model)
    with fmstats.track(model if inside else wrapped) as tracker:
        for x in batches(3):
            wrapped(x).sum().backward()
    assert functions_of(tracker) == dict.fromkeys(ROWS, 3)
    assert set(tracker.stats(group="world")) == {"first", "last", *ROWS}


def test_replicas_of_data_parallel_are_seen() -> None:
    """A replica is another module, but it shares the hooks of the one that it was made of."""
    model, x = Net(), batches(1)[0]

    def replica(module: nn.Module) -> nn.Module:
        made: nn.Module = module._replicate_for_data_parallel()  # type: ignore[no-untyped-call]
        for name, child in module.named_children():
            setattr(made, name, replica(child))
        for name, parameter in module._parameters.items():
            object.__setattr__(made, name, parameter)
        return made

    with fmstats.track(model) as tracker:
        out = model(x)
        for _ in range(2):
            assert torch.equal(replica(model)(x), out)
        assert functions_of(tracker) == dict.fromkeys(ROWS, 3)
        assert tracker.stats().info["first"].calls == 3


class Encoding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 1), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.attention(x, x, x)
        return torch.relu(self.head(self.encoder(y)))


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("measured", [False, True])
def test_attention_and_encoders_of_torch(measured: bool, training: bool) -> None:
    """The code of an encoder layer has rows if a part of it is measured; that of attention none."""
    model, x = Encoding().train(training), torch.randn(2, 5, 8)
    include = None if measured else ["head", "*/relu", "*/add"]
    with torch.no_grad(), fmstats.track(model, include, functional=True) as tracker:
        model(x)
        model(x)
    inside = [f"encoder.layers.0/{name}" for name in ("add", "relu", "add_1")]
    assert functions_of(tracker) == dict.fromkeys([*inside * measured, "(model)/relu"], 2)


class Interpolating(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(F.relu_(self.conv(x)), scale_factor=2)
        return torch.cat([x, F.silu(x)], 1)


def test_in_place_operations_are_measured_as_they_leave_their_tensor() -> None:
    model, x = Interpolating(), torch.randn(2, 3, 4, 4)
    with fmstats.track(model) as tracker:
        model(x)
    profile = tracker.stats()
    assert [name for name in profile if "/" in name] == [
        *("(model)/relu", "(model)/interpolate", "(model)/silu", "(model)/cat"),
    ]
    assert profile["conv"].min.min() < 0
    assert profile["(model)/relu"].min.min() == 0
    assert profile["(model)/cat"].channels == 8


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, as it loads dynamo
def test_rows_in_a_graph() -> None:
    """They are those of eager mode, in one graph that is made once."""
    dynamo = pytest.importorskip("torch._dynamo")
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 11):
        pytest.skip("needs torch 2.11")
    dynamo.reset()
    data = [torch.randn(2, 3, 4, 4) for _ in range(3)]
    eager, model = Interpolating(), Interpolating()
    with torch.no_grad(), fmstats.track(eager) as one:
        outputs = [eager(x) for x in data]
    with torch.no_grad(), fmstats.track(model) as other:
        graph = torch.compile(model, fullgraph=True, backend="eager")
        assert all(map(torch.equal, map(graph, data), outputs))
    assert functions_of(other) == functions_of(one)
    for name in functions_of(one):
        assert other.stats()[name].max.tolist() == one.stats()[name].max.tolist()
        assert other.stats().info[name].channel_dim == 1
    dynamo.reset()


def test_autograd_is_as_without() -> None:
    model, x = Net(), batches(1)[0]
    plain = copy.deepcopy(model)
    plain(x).square().sum().backward()
    with fmstats.track(model):
        model(x).square().sum().backward()
    for own, want in zip(model.parameters(), plain.parameters(), strict=True):
        assert own.grad is not None
        assert want.grad is not None
        assert torch.equal(own.grad, want.grad)
