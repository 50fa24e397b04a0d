"""A tracker counts the positions that a mask keeps, of whatever is made of the inputs."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fmstats
from fmstats.errors import FmstatsError
from fmstats.tracking.layer_positions import LayerPositions

N, T, C = 4, 6, 8


class Net(nn.Module):
    """Embeds tokens, and has a parameter that no input reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, C)
        self.constant = nn.Linear(C, C)
        self.first = nn.Linear(C, 2 * C)
        self.act = nn.ReLU()
        self.last = nn.Linear(2 * C, C)
        self.register_buffer("start", torch.randn(1, C))

    def forward(self, tokens: Tensor, mask: Tensor | None = None, **_: Any) -> Tensor:
        x = self.embed(tokens) + self.constant(self.start)
        return x + self.last(self.act(self.first(x)))


MASKED = ("embed", "first", "act", "last", "(model)/add", "(model)/add_1")


def tokens(n: int = N, t: int = T) -> Tensor:
    return torch.randint(0, 50, (n, t), generator=torch.Generator().manual_seed(n * t))


def mask_of(n: int = N, t: int = T) -> Tensor:
    return torch.arange(t) < torch.arange(1, n + 1)[:, None]


@pytest.fixture
def model() -> Net:
    torch.manual_seed(0)
    return Net().eval()


def counts(profile: fmstats.Profile) -> dict[str, int]:
    return {name: int(stats.count[0]) for name, stats in profile.items()}


KEPT = int(mask_of().sum())


@pytest.mark.parametrize(
    ("asked", "args", "kwargs"),
    [
        ("mask", (tokens(), mask_of()), {}),
        ("mask", (tokens(),), {"mask": mask_of()}),
        ("mask", (), {"mask": mask_of().long(), "tokens": tokens()}),
        ("beside", (tokens(),), {"beside": mask_of().to(torch.uint8)}),
        ("src_key_padding_mask", (tokens(),), {"src_key_padding_mask": ~mask_of()}),
        (lambda args, kwargs: args[1].bool(), (tokens(), mask_of()), {}),
        ({"(inputs)": "mask"}, (tokens(), mask_of()), {}),
    ],
)
def test_a_mask_comes_by_name_or_from_a_function(
    model: Net, asked: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    with fmstats.track(model, mask=asked) as tracker:
        model(*args, **kwargs)
    assert counts(tracker.stats()) == dict.fromkeys(MASKED, KEPT)


def test_the_name_of_an_argument_that_nobody_gives_is_told(model: Net) -> None:
    tracker = fmstats.track(model, mask="masks")  # forward() takes any others
    with pytest.warns(RuntimeWarning, match="was given no argument 'masks'; closest: mask"):
        model(tokens(), mask_of())
    assert not tracker.stats()
    tracker.close()


def test_what_is_masked_is_not_seen(model: Net) -> None:
    with fmstats.track(model, mask="mask") as masked:
        model(tokens(), mask_of())
    with fmstats.track(model) as alone:
        for ids, kept in zip(tokens(), mask_of(), strict=True):
            model(ids[kept][None])
    one, other = masked.stats(), alone.stats()
    for name in MASKED:
        assert (one[name].count == other[name].count).all()
        assert (one[name].zeros == other[name].zeros).all()
        assert one[name].max == pytest.approx(other[name].max, rel=1e-6)
        assert one[name].mean == pytest.approx(other[name].mean, rel=1e-5, abs=1e-6)


def test_all_positions_count_where_no_mask_is_given(model: Net) -> None:
    with fmstats.track(model, mask="mask") as tracker:
        model(tokens(), mask_of())
        model(tokens())
        model(tokens(), mask_of())
    assert {counts(tracker.stats())[name] for name in MASKED} == {2 * KEPT + N * T}


def test_positions_are_given_for_the_passes_within(model: Net) -> None:
    tracker = fmstats.track(model)
    model(tokens())
    with tracker.positions(mask_of()):
        model(tokens())
        with tracker.positions(torch.zeros(N, dtype=torch.bool)):
            model(tokens())
    model(tokens())
    found = tracker.stats()
    assert {counts(found)[name] for name in MASKED} == {KEPT + 2 * N * T}
    assert found.metadata["masked"] is True
    tracker.close()


def test_other_sizes_need_no_other_pass_to_be_followed(
    model: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed: list[str] = []
    place = LayerPositions.place

    def counted(self: LayerPositions, *args: Any) -> Any:
        placed.append(self._spec.name)
        return place(self, *args)

    monkeypatch.setattr(LayerPositions, "place", counted)
    with fmstats.track(model, mask="mask") as tracker:
        watch = tracker._gate.watch
        assert watch is not None
        follow = []
        model.last.register_forward_hook(lambda *_: follow.append(watch.flow is not None))
        for n, t in ((4, 6), (3, 7), (4, 6), (1, 5), (4, 1), (4, 6), (4, 6)):
            model(tokens(n, t), mask_of(n, t))
        assert follow == [True] + [False] * 6
        before = len(placed)
        model(tokens(4, 6), mask_of(4, 6))
        assert placed[before:].count("embed") == 0  # the native way, without Python in between
        assert placed[before:].count("constant") == 1
    want = sum(int(mask_of(n, t).sum()) for n, t in ((3, 7), (1, 5), (4, 1))) + 5 * KEPT
    assert {counts(tracker.stats())[name] for name in MASKED} == {want}


def test_what_the_mask_does_not_reach_is_left_out_or_counted_or_an_error(model: Net) -> None:
    with fmstats.track(model, mask="mask") as skipping:
        model(tokens(), mask_of())
    row = next(row for row in skipping.coverage() if row.name == "constant")
    assert (row.status, row.calls) == ("unmasked", 0)
    assert row.reason == (
        "1 tensor left out: its output is made of no input that the mask covers, or in a way that "
        "mixes positions"
    )
    with fmstats.track(model, mask="mask", mask_mismatch="count") as counting:
        model(tokens(), mask_of())
        model(tokens(), mask_of())
    found = counting.stats()
    assert counts(found) == {"constant": 2, **dict.fromkeys(MASKED, 2 * KEPT)}
    assert (found.info["constant"].unmasked, found.info["first"].unmasked) == (2, 0)
    row = next(row for row in counting.coverage() if row.name == "constant")
    assert row.status == "unmasked"
    assert row.reason is not None
    assert row.reason.startswith("2 tensors counted whole: its output is made of no input")
    tracker = fmstats.track(model, mask="mask", mask_mismatch="raise")
    with pytest.raises(
        FmstatsError, match=r"layer 'constant' \(Linear\): its output is made of no"
    ):
        model(tokens(), mask_of())
    assert counts(tracker.stats()) == {"embed": KEPT}  # what was counted stays
    tracker.close()


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (torch.ones(N, T), "the mask 'mask' is of torch.float32: give a bool tensor, or whole"),
        (torch.ones(N, 1, T, T).bool(), r"'mask' is of shape \(4, 1, 6, 6\): give one of shape"),
        (torch.ones(7, 3).bool(), r"shape \(7, 3\) fits no input of the model.*: \(4, 6\)"),
        ([1, 0], "the mask 'mask' is a list: give a tensor"),
    ],
)
def test_a_mask_that_cannot_be_read_is_told_once_a_pass_and_loses_nothing(
    model: Net, mask: Any, text: str
) -> None:
    tracker = fmstats.track(model, mask="mask")
    model(tokens(), mask_of())
    with pytest.warns(RuntimeWarning, match=text):
        model(tokens(), mask)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(tokens(), mask_of())
    assert counts(tracker.stats()) == dict.fromkeys(MASKED, 2 * KEPT)
    reasons = {row.name: row.reason for row in tracker.coverage()}
    assert str(reasons["first"]).startswith("1 tensor left out: its output came in a pass without")
    tracker.close()
    strict = fmstats.track(model, mask="mask", mask_mismatch="raise")
    with pytest.raises(FmstatsError, match=text):
        model(tokens(), mask)
    strict.close()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"mask": "mask2"}, r"mask='mask2': forward\(\) of Linear has no such argument; closest:"),
        ({"mask": "auto"}, "forward\\(\\) of Linear takes none of attention_mask"),
        ({"mask": "padding_mask"}, "some libraries have True where there is padding"),
        ({"mask": torch.ones(2)}, "a tensor is given by tracker.positions"),
        ({"mask": {"(inputs)": 3}}, "give the name of an argument"),
        ({"mask": {"(model)": "auto"}}, r"'auto' finds the masks of '\(inputs\)'; '\(model\)' is"),
        ({"mask": {"nowhere.*": "input"}}, "mask: 'nowhere.*' matches none of the tracked layers"),
        ({"groups": 3}, "groups=3: give the name of an argument"),
        ({"groups": "labels"}, "groups='labels': forward"),
        ({"max_groups": 0}, "max_groups=0: give a whole number"),
        ({"max_groups": 256}, "max_groups=256: at most 255"),
        ({"group_names": ["a", "a"]}, "give each group a name of its own"),
        ({"group_names": [""]}, "group_names: 0 is called ''"),
        ({"mask_mismatch": "ignore"}, "mask_mismatch='ignore': choose"),
    ],
)
def test_options_that_no_model_can_have(options: dict[str, Any], text: str) -> None:
    with pytest.raises(FmstatsError, match=text):
        fmstats.track(nn.Linear(3, 4), **options)


def test_layers_that_run_outside_of_a_pass_are_left_out(model: Net) -> None:
    tracker = fmstats.track(model, mask="mask")
    model(tokens(), mask_of())
    model.first(torch.randn(N, T, C))
    assert counts(tracker.stats())["first"] == KEPT
    reasons = {row.name: row.reason for row in tracker.coverage()}
    assert reasons["first"] == (
        "1 tensor left out: its output came outside of a forward pass of the tracked model"
    )
    tracker.close()


def test_gradients_are_counted_where_their_outputs_are(model: Net) -> None:
    with fmstats.track(model, mask="mask", of="grad_output") as tracker:
        for _ in range(3):
            out = model(tokens(), mask_of())
            out.square().sum().backward()
    assert {counts(tracker.stats())[name] for name in ("first", "act", "last")} == {3 * KEPT}


def test_a_nan_at_padding_is_no_event(model: Net) -> None:
    class Poisoned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(C, C)

        def forward(self, x: Tensor, mask: Tensor) -> Tensor:
            return self.layer(x)

    poisoned = Poisoned()
    x = torch.randn(N, T, C)
    x[~mask_of()] = math.nan
    with fmstats.track(poisoned, mask="mask", on_nonfinite="raise") as tracker:
        for _ in range(3):
            poisoned(x, mask_of())
    assert tracker.stats()["layer"].nan.sum() == 0


def test_masked_and_unmasked_profiles_do_not_merge(model: Net) -> None:
    with fmstats.track(model, mask="mask") as masked:
        model(tokens(), mask_of())
    with fmstats.track(model) as whole:
        model(tokens())
    with pytest.raises(FmstatsError, match="made with masked=True and masked=False"):
        masked.stats().merge(whole.stats(), missing="drop")


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("dynamic", [False, True])
def test_a_compiled_model_counts_the_same(
    model: Net, fresh_graphs: None, inside: bool, dynamic: bool
) -> None:
    with torch.no_grad(), fmstats.track(model, mask="mask") as tracker:
        whole: Any = (lambda *args: model(*args)) if inside else model
        compiled = torch.compile(whole, backend="eager", dynamic=dynamic)
        for n, t in ((4, 6), (3, 7), (4, 6)):
            compiled(tokens(n, t), mask_of(n, t))
    want = 2 * KEPT + int(mask_of(3, 7).sum())
    assert {counts(tracker.stats())[name] for name in MASKED} == {want}
    row = next(row for row in tracker.coverage() if row.name == "first")
    assert row.reason == "in compiled graphs measured by Python for the mask or the groups"


def test_groups_of_a_compiled_model(model: Net, fresh_graphs: None) -> None:
    by_sample = torch.tensor([0, 2, -1, 0])
    with torch.no_grad(), fmstats.track(model, groups="groups") as tracker:
        torch.compile(model, backend="eager")(tokens(), groups=by_sample)
    by = tracker.stats(by="group")
    assert {name: counts(part)["first"] for name, part in by.items()} == {"0": 2 * T, "2": T}


def test_time_may_come_first() -> None:
    layer = nn.TransformerEncoderLayer(C, 2, 2 * C, dropout=0.0)
    with torch.no_grad(), fmstats.track(layer, mask="src_key_padding_mask") as tracker:
        layer(torch.randn(T, N, C), src_key_padding_mask=~mask_of())
    assert set(counts(tracker.stats()).values()) == {KEPT}
    with pytest.warns(RuntimeWarning, match="fits no input"), fmstats.track(layer, mask="src_mask"):
        layer(torch.randn(T, T, C), src_mask=mask_of(T, T))  # it could be either


def test_a_profile_of_groups_is_asked_for_by_that_name(model: Net) -> None:
    with fmstats.track(model, groups="groups", group_names=["cat", "dog"]) as tracker:
        model(tokens(), groups=torch.tensor([0, 1, 1, 2]))
    assert list(tracker.stats(by="group")) == ["cat", "dog", "2"]
    with pytest.raises(FmstatsError, match="stats\\(by='class'\\): choose 'group'"):
        tracker.stats(by="class")  # type: ignore[call-overload]


def test_a_group_beyond_the_bound_on_a_device_is_told_when_it_is_asked(
    model: Net, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fmstats.tracking.group_range._is_host", lambda device: False)
    tracker = fmstats.track(model, groups="groups", max_groups=4)
    for last in (3, 9, 1):
        model(tokens(), groups=torch.tensor([0, -1, 2, last]))
    with pytest.raises(FmstatsError, match="group 9 is beyond max_groups=4"):
        tracker.stats()
    by = tracker.stats(by="group")  # what was counted stays
    assert {name: counts(part)["first"] for name, part in by.items()} == {
        **{"0": 3 * T, "1": T, "2": 3 * T, "3": T}
    }
    tracker.close()
