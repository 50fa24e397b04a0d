"""One layer's row while it is filled: what it takes of an output, and what it refuses."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from fmstats.backends.base import decline
from fmstats.backends.native import load_native
from fmstats.models.channel_dims import ChannelRule
from fmstats.profiles.profile import LayerProfile
from fmstats.profiles.row_names import MOST_CALLS
from fmstats.statistic.thresholds import Thresholds
from fmstats.statistic.view import view_of
from fmstats.tracking.gates import Gate
from fmstats.tracking.layer_spec import LayerSpec
from fmstats.tracking.layers import Layer
from fmstats.tracking.per_call import PerCall
from fmstats.tracking.reading import take_profiles
from fmstats.tracking.row_set import MOST_WIDTHS

SPEC = LayerSpec("conv", "Conv2d", ChannelRule(1), Thresholds(), "output", "auto", "raise")
X = torch.randn(4, 3)


def seen_by(layer: Layer) -> LayerProfile | None:
    return take_profiles([layer]).rows.get(layer.spec.name)


def layer_of(**changes: object) -> Layer:
    return Layer(LayerSpec(**{**vars(SPEC), **changes}), Gate())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "dtype",
    [
        *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
        *(torch.float8_e4m3fn, torch.float8_e5m2),
    ],
)
def test_every_float_is_measured(dtype: torch.dtype) -> None:
    layer = layer_of()
    layer.update(X.to(dtype))
    profile = seen_by(layer)
    assert profile is not None
    assert (profile.dtype, profile.shape, profile.calls) == (str(dtype)[6:], (4, 3), 1)
    assert profile.stats.min.tolist() == X.to(dtype).double().amin(0).tolist()


def test_nothing_is_kept_of_an_output() -> None:
    layer, x = layer_of(), X.clone()
    layer.update(x)
    before = seen_by(layer)
    x.fill_(100)
    after = seen_by(layer)
    assert before is not None
    assert after is not None
    assert torch.equal(before.stats.state.words, after.stats.state.words)
    assert after.stats.max.tolist() == X.amax(0).tolist()


def test_a_profile_does_not_change_afterwards() -> None:
    layer = layer_of()
    layer.update(X)
    profile = seen_by(layer)
    layer.update(X)
    assert profile is not None
    assert profile.stats.count.tolist() == [4, 4, 4]
    assert profile.calls == 1


def test_a_row_for_each_width() -> None:
    """In the order of their first tensors, each as of a layer that saw nothing else."""
    layer, others = layer_of(), {5: torch.randn(4, 5), 2: torch.randn(7, 2)}
    for _ in range(3):
        for x in (X, others[5], others[2], others[5]):
            layer.update(x)
    found = take_profiles([layer]).rows
    assert list(found) == ["conv@3", "conv@5", "conv@2"]
    for x, calls in ((X, 3), (others[5], 6), (others[2], 3)):
        alone = layer_of()
        for _ in range(calls):
            alone.update(x)
        got, want = found[f"conv@{x.shape[1]}"], seen_by(alone)
        assert want is not None
        assert torch.equal(got.stats.state.words, want.stats.state.words)
        assert (got.calls, got.shape, got.layer) == (calls, tuple(x.shape), "conv")


def test_widths_beyond_the_bound_are_counted_and_left_out() -> None:
    layer = layer_of()
    for width in range(1, MOST_WIDTHS + 4):
        layer.update(torch.ones(2, width))
    layer.update(torch.ones(3, 1))  # one that has a row goes on
    found = take_profiles([layer]).rows
    assert list(found) == [f"conv@{width}" for width in range(1, MOST_WIDTHS + 1)]
    assert found["conv@1"].stats.count.tolist() == [5]
    assert (layer.left_out, layer.reason) == (3, None)
    why = layer.why_partial() or ""
    assert why.startswith("3 tensors without a row: each came with another number")
    layer.reset()
    assert layer.why_partial() is None
    layer.update(torch.ones(2, MOST_WIDTHS + 9))  # what was forgotten makes room
    assert list(take_profiles([layer]).rows) == ["conv"]


def test_rows_of_several_widths_are_found_the_fast_way(monkeypatch: pytest.MonkeyPatch) -> None:
    if not hasattr(Tensor, "__dlpack_c_exchange_api__") or load_native() is None:
        pytest.skip("needs torch 2.10 and the native module")
    layer, other = layer_of(), torch.randn(4, 5)
    layer.update(X)
    layer.update(other)
    monkeypatch.setattr(layer, "_update", lambda output: pytest.fail("the slow way was taken"))
    for x in (X, other, other, X):
        layer.update(x)
    assert [row.calls for row in layer.rows] == [3, 3]


def test_other_sizes_of_other_dims_are_fine() -> None:
    layer = layer_of()
    layer.update(torch.randn(2, 3, 8, 8))
    layer.update(torch.randn(1, 3, 5, 9))
    layer.update(torch.randn(7, 3))
    profile = seen_by(layer)
    assert profile is not None
    assert profile.stats.count.tolist() == [2 * 64 + 45 + 7] * 3


def test_warn_once_then_nothing() -> None:
    layer = layer_of(on_error="warn", channels=1)
    layer.update(X)
    with pytest.warns(
        RuntimeWarning,
        match=r"^fmstats no longer measures layer 'conv' \(Conv2d\): channel_dim=1 is not a dim"
        r" .*; on_error='raise' raises instead$",
    ) as caught:
        layer.update(torch.randn(4))
    assert len(caught) == 1
    assert caught[0].filename == __file__  # what handed the output over
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer.update(torch.randn(4))
        layer.update(X)
    profile = seen_by(layer)
    assert profile is not None
    assert profile.calls == 1
    assert layer.reason is not None
    assert layer.reason.startswith(
        "disabled after an error: channel_dim=1 is not a dim of a tensor"
    )


def test_empty_outputs_are_a_no_op() -> None:
    layer = layer_of()
    layer.update(torch.randn(0, 7))
    assert seen_by(layer) is None
    assert layer.reason == "its output is empty"
    layer.update(X)
    assert layer.reason is None
    layer.update(torch.randn(0, 3))
    assert layer.reason is None
    profile = seen_by(layer)
    assert profile is not None
    assert profile.stats.count.tolist() == [4, 4, 4]


def test_a_batch_of_nan_loses_nothing() -> None:
    layer = layer_of()
    layer.update(X)
    clean = seen_by(layer)
    layer.update(torch.full((6, 3), float("nan")))
    profile = seen_by(layer)
    assert clean is not None
    assert profile is not None
    for field in ("mean", "var", "min", "max", "zeros", "finite_count"):
        assert np.array_equal(getattr(profile.stats, field), getattr(clean.stats, field)), field
    assert profile.stats.nan.tolist() == [6, 6, 6]
    assert profile.stats.count.tolist() == [10, 10, 10]


def test_reset() -> None:
    layer = layer_of()
    layer.update(X + 1e3)
    layer.reset()
    assert seen_by(layer) is None
    layer.update(X)
    profile = seen_by(layer)
    assert profile is not None
    assert profile.stats.max.tolist() == X.amax(0).tolist()


def test_zeros_without_memory_are_skipped() -> None:
    layer = layer_of()
    layer.update(torch._efficientzerotensor((4, 3)))
    assert seen_by(layer) is None
    assert layer.reason == "its output is a tensor of zeros without memory"


def test_a_view_with_the_other_sign() -> None:
    """The memory of a conjugate's imaginary part holds the numbers negated."""
    z = torch.complex(torch.zeros(3, 2), torch.ones(3, 2))
    layer = layer_of()
    for x in (z.imag, z.imag, z.conj().imag, z.conj().imag):
        layer.update(x)
    profile = seen_by(layer)
    assert profile is not None
    assert profile.stats.mean.tolist() == [0.0, 0.0]
    assert profile.stats.min.tolist() == [-1.0, -1.0]


def test_a_reset_forgets_in_place() -> None:
    """What holds on to the state, as a CUDA graph does, goes on filling it."""
    layer = layer_of()
    layer.update(X)
    (meter,) = layer.rows[0]._meters.values()
    layer.reset()
    meter.update(X, view_of(X, 1))
    profile = seen_by(layer)
    assert profile is not None
    assert profile.stats.count.tolist() == [len(X)] * X.shape[1]


def test_a_reset_layer_takes_other_channels() -> None:
    layer = layer_of()
    layer.update(X)
    layer.reset()
    layer.update(torch.randn(4, 5))
    profile = seen_by(layer)
    assert profile is not None
    assert profile.stats.channels == 5


def test_rows_are_in_the_order_of_their_first_tensors() -> None:
    gate = Gate()
    layers = [Layer(dataclasses.replace(SPEC, name=name), gate) for name in "abc"]
    for i in (2, 0, 1, 2):
        layers[i].update(X)
    assert list(take_profiles(layers).rows) == ["c", "a", "b"]


def test_a_row_per_call() -> None:
    calls = PerCall(SPEC, Gate())
    for _ in range(2):
        calls.begin_pass()
        calls.update(X)
        calls.update(2 * X)
        calls.update(torch.randn(4, 7))
    found = take_profiles(calls.layers).rows
    assert list(found) == ["conv#0", "conv#1", "conv#2"]
    profiles = list(found.values())
    assert [(p.layer, p.call, p.calls) for p in profiles] == [("conv", i, 2) for i in range(3)]
    assert [p.stats.channels for p in profiles] == [3, 3, 7]
    assert profiles[1].stats.max.tolist() == (2 * X).amax(0).tolist()
    calls.begin_pass()
    calls.update(torch.randn(4, 7))
    assert list(take_profiles(calls.layers).rows) == ["conv#0@3", "conv#1", "conv#2", "conv#0@7"]


def test_a_layer_s_calls_stop_and_are_scaled_together_or_one_by_one() -> None:
    calls = PerCall(dataclasses.replace(SPEC, on_error="warn"), Gate())
    calls.begin_pass()
    calls.update(X)
    calls.update(X)
    calls.rescale(4.0)  # what was folded before stays as it was
    calls.call(1).rescale(2.0)
    calls.begin_pass()
    calls.update(4 * X)
    with pytest.warns(RuntimeWarning, match="no longer measures layer 'conv#1'"):
        calls.fail(ValueError("broken"))
    found = take_profiles(calls.layers).rows
    assert [p.calls for p in found.values()] == [2, 1]
    for profile in found.values():
        assert profile.stats.max.tolist() == X.amax(0).tolist()


def test_calls_beyond_the_bound_are_counted_and_left_out() -> None:
    """A pass may call a layer as often as it likes; and nothing may begin passes at all."""
    calls, nothing = PerCall(SPEC, Gate()), torch.empty(0, 3)
    for _ in range(MOST_CALLS):
        calls.update(nothing)
    assert calls.why_partial() is None
    for x in (X, X):
        calls.update(x)
    calls.skip("is not asked for")
    assert (len(calls.layers), take_profiles(calls.layers).rows) == (MOST_CALLS, {})
    assert (calls.why_partial() or "").startswith("3 calls without a row: a layer has one for each")
    calls.begin_pass()
    calls.update(X)
    assert list(take_profiles(calls.layers).rows) == ["conv#0"]
    calls.reset()
    assert calls.why_partial() is None


def test_the_gate() -> None:
    assert Gate().open
    assert not Gate(paused=True).open
    assert not Gate(sampled=False).open


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x,
        lambda x: x + 1,
        lambda x: x[:2],
        lambda x: x.double(),
        lambda x: x.to(torch.bfloat16),
        lambda x: x.transpose(2, 3),
        lambda x: x.contiguous(memory_format=torch.channels_last),
        lambda x: x.clone().requires_grad_(),
        lambda x: torch.nn.Parameter(x),
        lambda x: (x, None),
        lambda x: x.abs().log(),  # of zero: infinite
    ],
)
def test_the_hot_path_declines_what_it_does_not_know(change: Callable[[Tensor], object]) -> None:
    """Whatever follows the first tensor, the statistics are those of a fresh layer."""
    first, other = torch.randn(3, 4, 5, 6).relu(), change(torch.randn(3, 4, 5, 6).relu())
    hot, cold = layer_of(), layer_of()
    for output in (first, other, other, first):
        hot.update(output)
        for row in cold.rows:
            row.try_update = decline
        cold.update(output)
    got, want = seen_by(hot), seen_by(cold)
    assert got is not None
    assert want is not None
    assert torch.equal(got.stats.state.words, want.stats.state.words)
    assert (got.calls, got.shape, got.dtype) == (want.calls, want.shape, want.dtype)


def test_the_hot_path_is_taken() -> None:
    if not hasattr(Tensor, "__dlpack_c_exchange_api__") or load_native() is None:
        pytest.skip("needs torch 2.10 and the native module")
    layer = layer_of()
    layer.update(X)
    before = seen_by(layer)
    (row,) = layer.rows
    assert row.try_update(X.clone())
    assert not row.try_update(X.double())
    assert not row.try_update(X[1:])
    assert not row.try_update(None)
    after = seen_by(layer)
    assert before is not None
    assert after is not None
    assert (after.stats.count == 2 * before.stats.count).all()


def test_rollback_keeps_the_error_since() -> None:
    layer = layer_of(on_error="warn", channels=1)
    layer.skip("is not there")
    snapshot = layer.take_snapshot()
    with pytest.warns(RuntimeWarning, match="no longer measures"):
        layer.update(torch.randn(4))
    layer.rollback(snapshot)
    assert (layer.reason or "").startswith("disabled after an error: channel_dim=1")
    other = layer_of()
    other.skip("is not there")
    snapshot = other.take_snapshot()
    other.update(X)
    other.rollback(snapshot)
    assert (other.reason, other.calls) == ("its output is not there", 0)


def test_rollback_forgets_rows_and_dims_since() -> None:
    layer = layer_of(channels=ChannelRule(-3, 3, own=False))
    layer.update(torch.ones(2, 3, 4, 4))
    snapshot = layer.take_snapshot()
    for width in range(4, 4 + MOST_WIDTHS):
        layer.update(torch.ones(2, width, 4, 4))
    layer.update(torch.ones(3, 4, 4))
    assert layer.left_out == 1
    layer.rollback(snapshot)
    assert (layer.left_out, layer.calls) == (0, 1)
    assert (layer.rows[0].calls, layer.rows[1].calls) == (1, 0)
    layer.update(torch.ones(7, 3, 9))  # guessed anew, not as a sample would have it
    (found,) = (row.profile(row.states) for row in layer.rows if row.width == 3)
    assert found is not None
    assert found[0].dims == {3: 1, 4: 1}


def test_a_state_that_a_dispatch_mode_would_fake_is_real() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    layer = layer_of()
    with FakeTensorMode(allow_non_fake_inputs=True):
        layer.update(X)
        layer.update(X)
    profile = seen_by(layer)
    assert profile is not None
    assert profile.stats.count.tolist() == [8] * 3
