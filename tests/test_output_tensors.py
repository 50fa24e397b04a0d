"""Which tensor of an output is measured, whatever the output is made of; and why one is not."""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fmstats
from fmstats.models.output_tensors import first_tensor, plain_part, why_skipped

X, COUNTS = torch.randn(4, 3), torch.ones(4, dtype=torch.int64)


class Giving(nn.Module):
    """A layer that gives something, whatever it is called with."""

    def __init__(self, output: object) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: Tensor) -> object:
        return self.output


def measured(output: object) -> tuple[int, str | None]:
    """Elements of a channel in two passes that give it, and why it was skipped; nothing raises."""
    layer = Giving(output)
    with fmstats.track(layer) as tracker:
        for _ in range(2):
            assert layer(X) is output
    (row,) = tracker.coverage()
    profile = tracker.stats()
    return int(profile["(model)"].count[0]) if profile else 0, row.reason


@dataclass
class Output:
    labels: Tensor
    scores: Tensor | None


Pair = namedtuple("Pair", "loss features")


@pytest.mark.parametrize(
    "output",
    [
        X,
        (X, COUNTS),
        [None, 3, X],
        {"labels": COUNTS, "scores": X},
        OrderedDict(first=X, second=torch.zeros(2)),
        ((COUNTS, (X,)), torch.zeros(2)),
        Output(COUNTS, X),
        Pair(None, X),
        {"nested": [Output(COUNTS, None), {"x": X}]},
    ],
    ids=lambda v: type(v).__name__,
)
def test_the_first_float_tensor(output: object) -> None:
    assert first_tensor(output) is X
    assert measured(output) == (2 * 4, None)


def test_without_floats_the_first_tensor() -> None:
    assert first_tensor((3, COUNTS, X > 0)) is COUNTS


@pytest.mark.parametrize("output", [None, 3, "text", (), {}, Output, [1, (2, None)]])
def test_no_tensor(output: object) -> None:
    assert first_tensor(output) is None
    assert why_skipped(None, output) == f"holds no tensor ({type(output).__name__})"


def test_parameters_are_tensors() -> None:
    assert why_skipped(torch.nn.Parameter(X), X) is None


def test_a_single_number_comes_after_what_has_channels() -> None:
    """Models give (loss, logits)."""
    loss = torch.tensor(3.0)
    assert first_tensor((loss, X)) is X
    vector = torch.ones(3)
    assert first_tensor((loss, COUNTS, vector, X)) is vector
    assert first_tensor((COUNTS, loss)) is loss
    assert first_tensor((loss, loss + 1, COUNTS)) is loss
    assert measured((loss, COUNTS)) == (0, "its output is a single number")


@dataclass
class Unset:
    missing: Tensor = field(init=False)
    scores: Tensor | None = None


@dataclass
class Refusing:
    scores: Tensor
    after: Tensor

    def __getattribute__(self, name: str) -> Any:
        if name == "scores":
            raise RuntimeError("not computed yet")
        return super().__getattribute__(name)


class Lazy(Mapping[str, Tensor]):
    """A mapping that fails when its values are asked for."""

    def __getitem__(self, key: str) -> Tensor:
        raise RuntimeError("not on this device")

    def __iter__(self) -> Iterator[str]:
        return iter(("a", "b"))

    def __len__(self) -> int:
        return 2


class Endless(tuple[Any, ...]):
    """Holds a new one whenever it is looked into."""

    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        return iter((Endless(), 1))


class NoText:
    def __repr__(self) -> str:
        raise RuntimeError("no text")


def holding_itself(*others: object) -> list[object]:
    output: list[object] = []
    output += [output, {"again": output}, *others]
    return output


def nested(depth: int) -> object:
    output: object = X
    for _ in range(depth):
        output = [output]
    return output


@pytest.mark.parametrize(
    "output",
    [
        Unset(scores=X),
        Refusing(COUNTS, X),
        [Lazy(), X],
        holding_itself(X),
        nested(5_000),
        [NoText(), X],
        (iter(()), X),
    ],
    ids=["unset", "refusing", "lazy", "itself", "deep", "no text", "generator"],
)
def test_odd_outputs_are_looked_through(output: object) -> None:
    assert measured(output) == (8, None)


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (Unset(), "its output holds no tensor (Unset)"),
        (holding_itself(), "its output holds no tensor (list)"),
        (Lazy(), "its output holds no tensor (Lazy)"),
        (Endless(), "its output holds no tensor (Endless)"),
        (NoText(), "its output holds no tensor (NoText)"),
        ((x for x in (X,)), "its output holds no tensor (generator)"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_odd_outputs_without_a_tensor_are_skipped(output: object, reason: str) -> None:
    assert measured(output) == (0, reason)


class Marked(Tensor):
    """As MONAI's MetaTensor: plain memory, with notes."""

    asked: list[str] = []  # noqa: RUF012

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        cls.asked.append(getattr(func, "__name__", str(func)))
        return super().__torch_function__(func, types, args, kwargs or {})


class Refused(Tensor):
    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError("none of your business")


class Wrapped(Tensor):
    """Holds another tensor; its own memory is nothing."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Wrapped:
        made: Wrapped = Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype)
        made.inner = inner
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError("it was computed with")


@pytest.mark.parametrize("kind", [Marked, Refused, type("Plain", (Tensor,), {}), nn.Parameter])
def test_subclasses_with_plain_memory_are_measured_past_their_code(kind: type[Tensor]) -> None:
    output = X.clone().as_subclass(kind)
    if kind is nn.Parameter:
        output = nn.Parameter(X)
    Marked.asked.clear()
    assert measured((COUNTS, output)) == (8, None)
    assert not Marked.asked


def test_a_model_of_tensors_with_notes_has_all_its_rows() -> None:
    x = torch.randn(2, 3, 8, 8)
    for of in ("output", "input", "grad_output"):
        # A subclass is a view, whose gradient torch tells no hook of once it is changed in place.
        act = nn.ReLU(inplace=of != "grad_output")
        model, profiles = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), act), []
        for kind in (Tensor, Marked):
            with fmstats.track(model.eval(), of=of) as tracker:
                y = model(x.as_subclass(kind))
                y.sum().backward()
            assert type(y) is kind
            profiles.append(tracker.stats())
        plain, noted = profiles
        assert list(plain) == list(noted)
        assert len(noted) == 3
        for name in plain:
            assert torch.equal(plain[name].state.words, noted[name].state.words)


def test_subclasses_with_operations_of_their_own_are_skipped() -> None:
    assert measured(Wrapped(X)) == (0, "its output is a Wrapped, not a plain tensor")


def test_a_lazy_parameter_is_skipped() -> None:
    assert measured(nn.UninitializedParameter()) == (0, "its output is empty")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: torch.ones(2, 3, dtype=torch.int8), "is int8"),
        (lambda: torch.quantize_per_tensor(X, 0.1, 0, torch.qint8), "is qint8"),
        (lambda: torch.complex(X, X).conj(), "is complex64"),
        (lambda: X.to_sparse_csr(), "is sparse_csr, not strided"),
        (lambda: torch.empty(2, 3, device="meta"), "is on the meta device, without data"),
        (lambda: torch.tensor(1.0), "is a single number"),
        (lambda: torch.empty(0, 3), "is empty"),
        (lambda: torch.ones(3, 0), "is empty"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # of PyTorch, about sparse and quantised tensors
def test_tensors_without_a_statistic(make: Callable[[], Tensor], reason: str) -> None:
    assert measured(make()) == (0, f"its output {reason}")


def test_nested_tensors() -> None:
    output = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)], layout=torch.jagged)
    assert measured(output) == (0, "its output is a NestedTensor, not a plain tensor")


@pytest.mark.parametrize(
    "output",
    [
        X.T.contiguous().T,
        X[::2].expand(3, 2, 3)[1:].transpose(0, 1).reshape(4, 3),
        torch.complex(X, X).conj().imag,
        torch.ones(1, 3).expand(4, 3),
        X.clone().requires_grad_()[:],
        torch.ones([1] * 62 + [4, 3]),
    ],
    ids=["transposed", "expanded", "negative", "stride 0", "view", "64 dims"],
)
def test_any_strided_tensor(output: Tensor) -> None:
    with fmstats.track(layer := Giving(output), channel_dim=-1) as tracker:
        layer(X)
    stats = tracker.stats()["(model)"]
    assert stats.max.tolist() == output.detach().resolve_neg().reshape(-1, 3).amax(0).tolist()


def test_a_tensor_that_a_collective_is_on_its_way_to_is_waited_for() -> None:
    collectives = pytest.importorskip("torch.distributed._functional_collectives")
    x = torch.randn(2, 3)
    part = plain_part(collectives.AsyncCollectiveTensor(x), lambda x: 1)
    assert type(part) is Tensor
    assert torch.equal(part, x)


def test_the_part_of_a_dtensor_that_this_rank_holds() -> None:
    tensor = pytest.importorskip("torch.distributed.tensor")
    local = torch.zeros(1)

    class Spread(tensor.DTensor):  # type: ignore[name-defined, misc]
        """One of which only this much is asked."""

        placements: tuple[Any, ...] = ()

        def __new__(cls, x: Tensor) -> Spread:
            return torch.Tensor._make_subclass(cls, x)

        def __init__(self, x: Tensor) -> None:
            pass

        def to_local(self) -> Tensor:
            return local

    def part_of(x: Tensor, channels: int, *placements: object) -> Tensor | str:
        spread = Spread(x)
        spread.placements = placements
        return plain_part(spread, lambda _: channels)

    whole, shard, sums = tensor.Replicate(), tensor.Shard, tensor.Partial()
    along = "is a DTensor sharded along its channels"
    maps = torch.zeros(2, 3, 4)
    assert part_of(maps, 1, whole) is local
    assert part_of(maps, 1, shard(0)) is part_of(maps, 1, shard(2), whole) is local
    assert part_of(maps, 1, shard(1)) == part_of(maps, -2, whole, shard(1)) == along
    assert part_of(maps, 1, shard(-2)) == along
    assert part_of(maps, 1, sums) == part_of(maps, 1, whole, sums) == "is a DTensor of partial sums"
    number = torch.tensor(1.0)
    assert part_of(number, 0, whole) is part_of(number, 0, shard(0)) is local  # has no channels
