"""What stands for scripted parts does what they do, in their mode, and takes hooks."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fmstats.models.copies.scripts import Scripted, stand_in

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
X = torch.rand(5, 4)


class Named(nn.Module):
    """Has a number and a method beside what it does."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.dropout, self.size = nn.Linear(4, 3), nn.Dropout(1.0), 3
        self.register_buffer("offset", torch.ones(3))

    def forward(self, x: torch.Tensor, more: float = 0.0) -> torch.Tensor:
        return self.dropout(self.layer(x)) + more

    @torch.jit.export
    def twice(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * self.layer(x)


def test_it_does_what_the_script_does() -> None:
    script = torch.jit.script(Named().eval())
    found = stand_in(script)
    assert isinstance(found, Scripted)
    assert torch.equal(found(X, more=1.0), script(X, more=1.0))
    assert torch.equal(found.twice(X), script.twice(X))
    assert found.size == 3
    assert [name for name, _ in found.named_modules()] == [""]
    for of in (nn.Module.named_parameters, nn.Module.named_buffers):
        held = dict(of(script))
        assert held
        assert {name: x.data_ptr() for name, x in of(found)} == {
            name: x.data_ptr() for name, x in held.items()
        }
    with pytest.raises(AttributeError):
        _ = found.missing


def test_the_mode_is_that_of_the_script() -> None:
    model = stand_in(nn.Sequential(torch.jit.script(Named())))
    linear = model.eval()(X)
    assert linear.abs().min() > 0
    assert model.train()(X).eq(0).all()  # dropout leaves nothing
    assert torch.equal(model.eval()(X), linear)
    (stands,) = model
    for mode in (stands.train, stands.eval, stands.train):  # which return the module, as any does
        assert mode() is stands
        assert stands.training == stands._script.training == (mode == stands.train)


def test_each_outermost_script_is_replaced_and_nothing_else() -> None:
    kept = nn.Linear(4, 4)
    inner = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.ReLU()))
    model = nn.Sequential(kept, nn.Sequential(inner, nn.ReLU()), inner)
    want = model(X)
    found = stand_in(model)
    assert found is model
    assert found[0] is kept
    assert [type(m) for m in (found[1][0], found[2])] == [Scripted] * 2
    met = []
    for stands in (found[1][0], found[2]):
        stands.register_forward_hook(lambda *given: met.append(given[2].shape))
    assert torch.equal(found(X), want)
    assert met == [(5, 4)] * 2
    again = stand_in(found)
    assert [type(m) for m in again.modules()].count(Scripted) == 2
