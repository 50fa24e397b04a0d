"""Mixtures of experts: rows keyed by the number of the expert, whoever holds it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import fmstats
from fmstats.models.experts import ExpertName, find_numbers, global_name, local_name

C = 6


class Mixture(nn.Module):
    """Hands each token to the expert that it is told."""

    def __init__(self, count: int, **told: object) -> None:
        super().__init__()
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(C, 2 * C), nn.ReLU(), nn.Linear(2 * C, C)) for _ in range(count)
        )
        for name, value in told.items():
            setattr(self, name, value)

    def forward(self, x: Tensor, to: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows = (to == number).nonzero().flatten()
            if len(rows) or number == 0:  # as some do for experts without tokens, others not
                out.index_add_(0, rows, expert(x[rows]))
        return out


class Model(nn.Module):
    def __init__(self, count: int = 4, **told: object) -> None:
        super().__init__()
        self.moe = Mixture(count, **told)

    def forward(self, x: Tensor, to: Tensor) -> Tensor:
        return x + self.moe(x, to)


def profile_of(model: nn.Module, to: list[int]) -> fmstats.Profile:
    with torch.no_grad(), fmstats.track(model) as tracker:
        model(torch.randn(len(to), C), torch.tensor(to))
    return tracker.stats()


def test_experts_without_tokens_have_rows_that_merge() -> None:
    torch.manual_seed(0)
    model = Model()
    one, other = profile_of(model, [1, 1, 3]), profile_of(model, [0, 2, 2])
    for number, count in enumerate((0, 2, 0, 1)):
        row = one.info[f"moe.experts.{number}.0"]
        assert (row.stats.count == count).all()
        assert (row.stats.channels, row.calls) == (2 * C, int(count > 0))
    both = one.merge(other)
    assert both.expert_shares() == {
        "moe.experts": {
            0: pytest.approx(1 / 6),
            1: pytest.approx(2 / 6),
            2: pytest.approx(2 / 6),
            3: pytest.approx(1 / 6),
        }
    }
    assert {int(both[f"moe.experts.{i}.2"].count[0]) for i in range(4)} == {1, 2}
    assert one.diagnose() is not None
    assert "nan" not in str(one.merge(one)).split("moe.experts.1.0")[1].split("\n")[0]


def test_each_rank_names_its_experts_by_their_numbers() -> None:
    torch.manual_seed(0)
    first = profile_of(Model(expert_offset=0), [0, 1, 1])
    second = profile_of(Model(local_expert_indices=[4, 5, 6, 7]), [3, 3])
    names = {name for name in second if ".experts." in name}
    assert names == {f"moe.experts.{number}.{part}" for number in range(4, 8) for part in range(3)}
    both = first.merge(second)
    shares = both.expert_shares()["moe.experts"]
    assert shares == {n: pytest.approx(s / 5) for n, s in enumerate((1, 2, 0, 0, 0, 0, 0, 2))}
    saved = fmstats.Profile.from_bytes(both.to_bytes())
    assert list(saved) == list(both)
    model = Model(local_expert_indices=[4, 5, 6, 7])
    before = profile_of(model, [1, 2])
    tracker = fmstats.track(model)
    tracker.restore(before)
    with torch.no_grad():
        model(torch.randn(1, C), torch.tensor([1]))
    assert tracker.stats()["moe.experts.5.1"].count[0] == 2
    tracker.close()


def test_names_of_experts() -> None:
    assert ExpertName.of("a.experts.3.up") == ("a.experts", 3, ".up")
    assert ExpertName.of("a.local_experts.12/mul") == ("a.local_experts", 12, "/mul")
    assert ExpertName.of("experts.3") == ("experts", 3, "")
    assert ExpertName.of("a.expertise.3") is None
    assert ExpertName.of("layers.3.mlp") is None
    numbers = find_numbers(Model(local_expert_indices=[4, 5, 6, 7]))
    assert numbers == {"moe.experts": [4, 5, 6, 7]}
    assert global_name("moe.experts.1.up", numbers) == "moe.experts.5.up"
    assert local_name("moe.experts.5.up", numbers) == "moe.experts.1.up"
    for name in ("moe.experts.9.up", "moe.gate"):
        assert global_name(name, numbers) == name
    assert find_numbers(Model()) == {}
    assert find_numbers(Model(local_expert_indices=[4, 5])) == {}
