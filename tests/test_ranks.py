"""Several ranks: their data together, names without wrappers, tensors that are spread over them.

Two processes run `rank_worker.py` once for all tests of this file.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from compat_models import assert_row, captured
from profile_files import layer_of, profile_of
from tolerances import EXACT
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

import fmstats
from fmstats.errors import FmstatsError
from fmstats.models.output_tensors import plain_part
from fmstats.models.wrappers import named_modules, unwrap
from fmstats.profiles.profile import Profile
from fmstats.profiles.ranks import check_group, gather, refuse_split_channels

if not dist.is_available() or not dist.is_gloo_available():
    pytest.skip("needs torch.distributed with gloo", allow_module_level=True)

import rank_worker

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each rank has written down."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(rank_worker.RANKS), str(HERE / "rank_worker.py")]
    package = str(Path(fmstats.__file__).parent.parent)
    paths = os.pathsep.join(filter(None, [package, os.environ.get("PYTHONPATH")]))
    with subprocess.Popen(
        [*command, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
    ) as process:
        try:
            output, _ = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, _ = process.communicate()
            pytest.fail(f"the ranks hang: {output}")
    assert process.returncode == 0, output
    files = [folder / f"rank{rank}.pt" for rank in range(rank_worker.RANKS)]
    return [torch.load(file, weights_only=False) for file in files]


def case(ranks: list[dict[str, Any]], name: str) -> list[Any]:
    """What the ranks say of one case."""
    found = [rank[name] for rank in ranks]
    for each in found:
        assert not (isinstance(each, str) and each.startswith("Traceback")), each
    return found


def assert_same_bits(a: Profile, b: Profile) -> None:
    assert list(a) == list(b)
    for name in a:
        assert torch.equal(a[name].state.words, b[name].state.words), name
        assert a.info[name].calls == b.info[name].calls
    assert a.metadata == b.metadata


def assert_data_together(profile: Profile, of: tuple[int, ...] = (0, 1)) -> None:
    """As one process that sees the data of these ranks."""
    model = rank_worker.Net()
    want: dict[str, list[Tensor]] = {}
    with torch.no_grad(), fmstats.track(model) as tracker:
        for rank in of:
            seen, _ = captured(model, lambda rank=rank: rank_worker.run(model, rank))  # type: ignore[misc]
            want = {n: want.get(n, []) + seen.get(n, []) for n in {**want, **seen}}
    alone = tracker.stats()
    assert set(profile) == set(alone) == set(want)
    for name, outputs in want.items():
        got, one = profile[name].state, alone[name].state
        for field in EXACT:
            assert torch.equal(got[field], one[field]), (name, field)
        for field in ("mean", "m2"):
            assert torch.allclose(got[field], one[field], rtol=1e-12, atol=1e-16), (name, field)
        assert_row(profile[name], outputs, profile.info[name].channel_dim, torch.float64)
        assert profile.info[name].calls == len(outputs)
    assert profile.metadata["passes"] == 3 * len(of)


@pytest.mark.parametrize("name", ["ddp", "ddp_around_a_tracked_model", "fsdp", "compiled_ddp"])
def test_all_ranks_get_the_data_of_all(ranks: list[dict[str, Any]], name: str) -> None:
    first, second = case(ranks, name)
    assert set(first["own"]) == {"body.0", "body.1", "head"}  # no prefixes
    assert set(second["own"]) == {"body.0", "body.1", "head", "rare"}
    assert_data_together(first["own"], of=(0,))
    assert_data_together(second["own"], of=(1,))
    assert_same_bits(first["world"], second["world"])
    assert_data_together(first["world"])
    assert_same_bits(first["world"], first["own"].merge(second["own"], missing="keep"))


def test_a_rank_that_has_seen_nothing(ranks: list[dict[str, Any]]) -> None:
    first, second = case(ranks, "one_rank_sees_nothing")
    assert len(first["own"]) == 0
    assert_same_bits(first["world"], second["world"])
    assert_data_together(first["world"], of=(1,))


def test_groups(ranks: list[dict[str, Any]]) -> None:
    first, second = case(ranks, "groups")
    for key in ("both", "of mesh"):
        assert_same_bits(first[key], second[key])
        assert_data_together(first[key])
    assert_data_together(first["first"], of=(0,))
    assert second["first"] == (
        "stats(group=...): rank 1 is not of that group: call it on the ranks that are, or with "
        "group='world' on all"
    )
    assert first["name"] == "stats(group='all'): choose 'world' or a process group"


def test_ranks_that_do_not_fit_together_all_say_so(ranks: list[dict[str, Any]]) -> None:
    want = (
        "cannot merge layer '0': 4 channels in one profile, 5 in the other, and they are not known "
        "to be of one model"
    )
    assert case(ranks, "other_channels") == [want, want]


def test_dtensors(ranks: list[dict[str, Any]]) -> None:
    first, second = case(ranks, "dtensors")
    x = torch.arange(24.0, dtype=torch.float64).view(4, 6)
    for mine, part in ((first, x[:2]), (second, x[2:])):
        assert_row(mine["Shard(0)"]["own"]["0"], [part], 1)
        assert_row(mine["Shard(0)"]["world"]["0"], [x], 1)
        assert_row(mine["Replicate"]["own"]["0"], [x], 1)
        assert_row(mine["Replicate"]["world"]["0"], [x, x], 1)  # each rank counts its own
        for key, reason in (
            ("Shard(1)", "its output is a DTensor sharded along its channels"),
            ("Shard(-1)", "its output is a DTensor sharded along its channels"),
            ("Partial", "its output is a DTensor of partial sums"),
        ):
            assert mine[key]["reason"] == reason
            assert len(mine[key]["own"]) == len(mine[key]["world"]) == 0
        assert_row(mine["uneven"]["world"]["0"], [x[:1]], 1)
    assert second["uneven"]["reason"] == "its output is empty"


def test_tensor_parallel_layers(ranks: list[dict[str, Any]]) -> None:
    """Row-parallel outputs are whole; column-parallel ones are a rank's channels, or skipped."""
    first, second = case(ranks, "tensor_parallel")
    along = "its output is a DTensor sharded along its channels"
    for mine in (first, second):
        assert mine["dtensor"]["reasons"] == {"0": None, "1": along, "2": along, "3": None}
        for key in ("dtensor", "local"):
            whole, got = mine["whole"]["3"], mine[key]["own"]["3"]
            assert got.count.tolist() == whole.count.tolist()
            assert got.mean == pytest.approx(whole.mean, rel=1e-4, abs=1e-6)
    for name in ("1", "2"):  # with use_local_output=True, which is the default
        parts = [mine["local"]["own"][name] for mine in (first, second)]
        assert [part.channels for part in parts] == [4, 4]
        means = [mean for part in parts for mean in part.mean]
        assert means == pytest.approx(first["whole"][name].mean, rel=1e-4, abs=1e-6)
    for mine in (first, second):  # merged over ranks, they would be other channels added up
        assert "layer '1' (Linear) gives this rank 4 of its 8 channels" in mine["refused"]


def test_a_strided_shard_of_the_channels_is_one() -> None:
    """It denies that it is a shard; two-dimensional parallelism makes them."""
    tensor = pytest.importorskip("torch.distributed.tensor")
    strided = pytest.importorskip("torch.distributed.tensor.placement_types")._StridedShard

    class Spread(tensor.DTensor):  # type: ignore[name-defined, misc]
        placements = (strided(1, split_factor=2),)

        def __new__(cls) -> Spread:
            return torch.Tensor._make_subclass(cls, torch.zeros(2, 3))

        def __init__(self) -> None:
            pass

        def to_local(self) -> str:  # type: ignore[override]
            return "measured"

    spread = Spread()
    assert plain_part(spread, lambda x: 1) == "is a DTensor sharded along its channels"
    assert plain_part(spread, lambda x: -1) == "is a DTensor sharded along its channels"
    assert plain_part(spread, lambda x: 0) == "measured"


class Placed(nn.Module):
    """A layer whose weight is spread over ranks, of which this one has some rows."""

    def __init__(self, whole: int, own: int) -> None:
        super().__init__()
        local = torch.zeros(own, 3)
        self.weight = SimpleNamespace(  # type: ignore[assignment]
            placements=(), shape=(whole, 3), to_local=lambda: local
        )


@pytest.mark.parametrize(("whole", "own", "refused"), [(8, 4, True), (4, 4, False), (8, 2, False)])
@pytest.mark.parametrize("row", ["l", "l#1"])
def test_channels_that_each_rank_has_for_itself(
    whole: int, own: int, refused: bool, row: str
) -> None:
    """Neither those of a replicated weight, nor those that were gathered."""
    profile = profile_of({row: layer_of(torch.zeros(2, 4))}, per_call="#" in row)
    said = pytest.raises(FmstatsError, match=f"layer '{row}' .* gives this rank 4 of its 8")
    with said if refused else nullcontext():
        refuse_split_channels(profile, {"l": Placed(whole, own)})


@pytest.fixture
def alone() -> Iterator[None]:
    """A process group of this process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


class MyParallel(DistributedDataParallel):
    """As people make them, to reach attributes of the module inside."""


def checkpointed(model: nn.Module) -> nn.Module:
    from torch.distributed.algorithms._checkpoint import checkpoint_wrapper as wrappers

    model.body = wrappers.checkpoint_wrapper(model.body)
    model.head = wrappers.checkpoint_wrapper(model.head)
    return wrappers.checkpoint_wrapper(model)


def compiled_parts(model: nn.Module) -> nn.Module:
    model.body = torch.compile(model.body, backend="eager")
    return model


WRAPPED: dict[str, Callable[[nn.Module], nn.Module]] = {
    "DDP": DistributedDataParallel,
    "a subclass of DDP": MyParallel,
    "DataParallel": DataParallel,
    "DDP of DataParallel": lambda m: DistributedDataParallel(DataParallel(m)),
    "checkpoint_wrapper": checkpointed,
    "compile(DDP)": lambda m: torch.compile(DistributedDataParallel(m), backend="eager"),
    "DDP(compile)": lambda m: DistributedDataParallel(torch.compile(m, backend="eager")),
    "compiled parts": compiled_parts,
    "DDP(checkpoint_wrapper)": lambda m: DistributedDataParallel(checkpointed(m)),
}


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("kind", WRAPPED)
def test_names_are_without_wrappers(kind: str) -> None:
    plain = rank_worker.Net()
    names = list(named_modules(plain))
    assert names == [name for name, _ in plain.named_modules()]
    model = WRAPPED[kind](rank_worker.Net())
    modules = named_modules(model)
    assert list(modules) == names
    assert type(modules[""]) is rank_worker.Net
    assert type(modules["head"]) is nn.Linear
    assert type(unwrap(model)) is rank_worker.Net
    with fmstats.track(model) as tracker:
        rank_worker.run(model, 1)
    assert_data_together(tracker.stats(), of=(1,))
    assert_same_bits(tracker.stats(group="world"), tracker.stats())
    with fmstats.track(model, include=["body", "(model)"]) as tracker:
        rank_worker.run(model, 1)
    assert set(tracker.stats()) == {"body", "(model)"}
    assert tracker.stats()["(model)"].channels == 5


@pytest.mark.usefixtures("alone")
def test_a_group_is_given_by_name_or_by_itself() -> None:
    assert check_group("world", "stats") is None  # as torch.distributed takes it
    own = dist.new_group([0])
    assert check_group(own, "stats") is own
    for other in ("all", None, 3, [0]):
        told = rf"^profile\(group={re.escape(repr(other))}\): choose 'world' or a process group$"
        with pytest.raises(FmstatsError, match=told):
            check_group(other, "profile")


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("size", [-1, 0, 1, 2])
def test_a_rank_outside_of_the_group_is_refused(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Where torch.distributed says so: of such a group it has no size."""
    outside = dist.GroupMember.NON_GROUP_MEMBER
    monkeypatch.setattr(dist, "get_world_size", lambda among: size)
    told = pytest.raises(FmstatsError, match=r"^stats\(group=\.\.\.\): rank 0 is not of that group")
    with told if size == -1 else nullcontext():
        assert check_group(outside, "stats") is outside


@pytest.mark.usefixtures("alone")
def test_what_every_rank_gives_is_given_to_every_rank() -> None:
    assert gather({"a": 1}, None) == [{"a": 1}]
    assert gather("b", dist.new_group([0])) == ["b"]


def test_without_a_process_group() -> None:
    tracker = fmstats.track(nn.ReLU())
    with pytest.raises(
        FmstatsError,
        match=r"^stats\(group=\.\.\.\) needs torch\.distributed to be initialised: call "
        r"init_process_group first, or stats\(\) for what this process has seen$",
    ):
        tracker.stats(group="world")


@pytest.mark.parametrize("kind", ["parameters_ddp", "parameters_fsdp"])
def test_parameters_of_all_ranks_are_those_of_one_process(
    ranks: list[dict[str, Any]], kind: str
) -> None:
    first, second = case(ranks, kind)
    assert_same_bits(first["world"], second["world"])
    alone = rank_worker.train_parameters(rank_worker.Net(), None)["own"]
    assert isinstance(alone, Profile)
    together = first["world"]
    assert list(together) == list(alone)
    for name in alone:
        got, one = together[name], alone[name]
        assert got.channels == one.channels, name
        for field in ("count", "zeros", "nan"):
            np.testing.assert_array_equal(getattr(got, field), getattr(one, field), name)
        for field in ("mean", "std", "min", "max"):
            np.testing.assert_allclose(getattr(got, field), getattr(one, field), 1e-9, 1e-12, name)
    own = [part["own"]["body.0.weight"].count for part in (first, second)]
    assert together["body.0.weight"].count.tolist() == [81, 81, 81, 81]  # 27 weights, three steps
    halves = [[81, 81, 0, 0], [0, 0, 81, 81]]
    assert [count.tolist() for count in own] == (
        halves if kind == "parameters_fsdp" else [[81, 81, 81, 81]] * 2
    )


def test_parameters_cut_in_another_way_are_refused(ranks: list[dict[str, Any]]) -> None:
    for told in case(ranks, "parameters_cut_otherwise"):
        assert "parameter 'weight' is a DTensor of placements (Partial(sum),)" in told
        assert "exclude= it" in told
