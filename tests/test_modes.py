"""The ways in which PyTorch runs a model: modes, transforms, scripts and graphs."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp, vmap

import fmstats
from fmstats import FmstatsError

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 5), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(5, 2))


@pytest.mark.parametrize(
    ("when", "passes", "elements"), [("always", 5, 20), ("train", 2, 8), ("eval", 3, 12)]
)
def test_when(when: str, passes: int, elements: int) -> None:
    model = net()
    with fmstats.track(model, when=when) as tracker:
        for training in (True, False, False, True, False):
            model.train(training)
            model(X)
    stats = tracker.stats()
    assert stats.metadata["passes"] == passes
    assert stats["0"].count.tolist() == [elements] * 5
    assert stats.metadata["when"] == when


def test_training_and_eval_kept_apart() -> None:
    model = net()
    training, evaluation = (fmstats.track(model, when=when) for when in ("train", "eval"))
    model.train()(X)
    model.eval()(X)
    assert (training.stats()["2"].sparsity > evaluation.stats()["2"].sparsity).any()
    assert training.stats()["2"].count.tolist() == evaluation.stats()["2"].count.tolist()


def test_when_takes_every_of_its_own_passes() -> None:
    model = net()
    with fmstats.track(model, when="train", every=2) as tracker:
        for training in (True, False, True, False, True):
            model.train(training)
            model(X)
    assert tracker.stats().metadata["passes"] == 3
    assert tracker.stats()["0"].count.tolist() == [8] * 5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype: torch.dtype) -> None:
    model, seen = net(), []
    model[0].register_forward_hook(lambda m, args, out: seen.append(out.clone()))
    with fmstats.track(model) as tracker, torch.autocast("cpu", dtype=dtype):
        model(X)
    stats = tracker.stats()
    assert stats.info["0"].dtype == str(dtype).removeprefix("torch.")
    assert stats["0"].max.tolist() == seen[0].amax(0).tolist()


TRANSFORMS: dict[str, Callable[[nn.Module], object]] = {
    "vmap": lambda model: vmap(model)(X),
    "grad": lambda model: grad(lambda x: model(x).sum())(X),
    "jvp": lambda model: jvp(model, (X,), (X,)),
    "per-sample gradients": lambda model: vmap(
        grad(lambda p, x: functional_call(model, p, x).sum()), (None, 0)
    )(dict(model.named_parameters()), X),
}


# Of torch's own, when forward-mode derivatives are first used.
@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")
@pytest.mark.parametrize("name", TRANSFORMS)
def test_function_transforms_are_skipped(name: str) -> None:
    """A transformed tensor has no memory; what it stands for is another tensor's."""
    model = net().eval()
    model[1].inplace = False
    expected = TRANSFORMS[name](model)
    with fmstats.track(model) as tracker:
        model(X)
        result = TRANSFORMS[name](model)
        coverage = tracker.coverage()
        model(X)
    torch.testing.assert_close(result, expected, rtol=0, atol=0)
    assert {row.status for row in coverage} == {"skipped"}
    assert all("inside a function transform" in str(row.reason) for row in coverage)
    assert tracker.stats()["0"].count.tolist() == [8] * 5
    assert {row.status for row in tracker.coverage()} == {"tracked"}


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("make", [torch.jit.script, lambda m: torch.jit.trace(m, X)])
def test_scripts_are_refused(make: Callable[[nn.Module], nn.Module]) -> None:
    script = make(net().eval())
    with pytest.raises(FmstatsError, match="is TorchScript, which calls no Python hooks"):
        fmstats.track(script)
    whole = nn.Sequential(nn.Linear(3, 3), script)
    with pytest.raises(FmstatsError, match=r"'1.*' is TorchScript.*exclude="):
        fmstats.track(whole)
    with fmstats.track(whole, exclude="1*") as tracker:
        whole(X)
    assert list(tracker.stats()) == ["0"]


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_tracked_model_can_be_traced() -> None:
    model = net().eval()
    with fmstats.track(model):
        traced = torch.jit.trace(model, X)
    assert torch.equal(traced(X), model(X))


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("of", ["output", "input", "grad_output"])
@pytest.mark.parametrize("every", [1, 2])
def test_a_traced_pass_is_no_data(of: str, every: int) -> None:
    """Also after a plain pass of the same shapes, and of a part alone."""
    model = net().eval()
    model[1].inplace = False
    with fmstats.track(model, of=of, every=every) as tracker:
        model(X).sum().backward()
        before = tracker.stats()
        torch.jit.trace(model, X, check_trace=False)(X).sum().backward()
        torch.jit.trace(model[0], X, check_trace=False)(X).sum().backward()
        assert tracker.stats().to_dict() == before.to_dict()
        model(X).sum().backward()
        after = tracker.stats()
    assert (after["3"].count == before["3"].count * (3 - every)).all()
    assert {row.status for row in tracker.coverage()} == {"tracked"}


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
@pytest.mark.parametrize("of", ["output", "input"])
@pytest.mark.parametrize("when", ["always", "eval"])
def test_a_pass_within_a_traced_function_is_no_data(of: str, when: str) -> None:
    model = net().eval().requires_grad_(False)
    with fmstats.track(model, of=of, when=when) as tracker:
        for passes in (1, 2):
            model(X)
            before = tracker.stats()
            torch.jit.trace(lambda x: model(x), X, check_trace=False)(X)
            assert tracker.stats().to_dict() == before.to_dict()
            assert before.metadata["passes"] == passes
            assert before["0"].count[0] == passes * len(X)


# Of torch.export about its own internals.
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_programs() -> None:
    program = torch.export.export(net().eval(), (X,))
    with pytest.raises(FmstatsError, match=r"got ExportedProgram: torch\.export\.unflatten"):
        fmstats.track(program)  # type: ignore[arg-type]
    model = torch.export.unflatten(program)
    with fmstats.track(model) as tracker:
        model(X)
    assert tracker.stats()["0"].count.tolist() == [4] * 5


def test_a_program_s_flat_module_says_that_nothing_fired() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = torch.export.export(net().eval(), (X,)).module()
    with fmstats.track(model, include="0") as tracker:
        model(X)
    assert [row.status for row in tracker.coverage()] == ["never fired"]


def test_fx() -> None:
    model = torch.fx.symbolic_trace(net().eval())
    with fmstats.track(model) as tracker:
        model(X)
    assert tracker.stats()["3"].count.tolist() == [4, 4]


def test_fx_traces_a_tracked_model() -> None:
    model = net().eval()
    with fmstats.track(model) as tracker:
        traced = torch.fx.symbolic_trace(model)
        model(X)
    assert torch.equal(traced(X), model(X))
    assert tracker.stats()["0"].count.tolist() == [4] * 5


def test_analyze_leaves_the_statistics_alone() -> None:
    model = net().eval()
    with fmstats.track(model) as tracker:
        model(X)
        before = tracker.stats()["0"].to_dict()
        with torch._subclasses.FakeTensorMode(allow_non_fake_inputs=True):
            model(torch.empty(4, 3))
    assert tracker.stats()["0"].to_dict() == before


def test_second_order_gradients_are_unchanged() -> None:
    def second(model: nn.Module) -> Tensor:
        x = X.clone().requires_grad_()
        (first,) = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)
        return torch.autograd.grad(first.square().sum(), x)[0]

    plain, model = net().eval(), net().eval()
    with fmstats.track(model):
        assert torch.equal(second(model), second(plain))
