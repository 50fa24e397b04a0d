"""Fake tensors of operations of which PyTorch's own rules refuse what their kernels take."""

from __future__ import annotations

import pytest
import torch
from analysis_models import from_transformers
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

import fmstats
from fmstats.analysis.fakes import faking
from fmstats.analysis.sparse import count_stored

# Shapes of two factors, and where groups end: rows, columns, the inner dim, none.
GROUPED = {
    "rows": ((6, 8), (3, 8, 16), (2, 3, 6)),
    "columns": ((3, 4, 8), (8, 16), (2, 3, 16)),
    "inner": ((4, 8), (8, 16), (2, 3, 8)),
    "a batch": ((3, 4, 8), (3, 8, 16), None),
}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", GROUPED)
def test_a_grouped_product_is_shaped_as_the_real_one(name: str, dtype: str) -> None:
    *shapes, ends = GROUPED[name]
    a, b = (torch.ones(shape, dtype=DTYPES[dtype]) for shape in shapes)
    offsets = None if ends is None else torch.tensor(ends, dtype=torch.int32)
    real = torch._grouped_mm(a, b, offs=offsets)
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with faking(mode):
        fake = [None if x is None else mode.from_tensor(x) for x in (a, b, offsets)]
        out = torch._grouped_mm(fake[0], fake[1], offs=fake[2])
        mixed = torch._grouped_mm(a, fake[1], offs=offsets)  # real ones may come along
    for found in (out, mixed):
        assert (found.shape, found.dtype, found.device) == (real.shape, real.dtype, real.device)


def test_it_keeps_its_inputs_for_the_backward_pass() -> None:
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with faking(mode):
        a = torch.ones(6, 8, requires_grad=True)
        b, ends = torch.ones(3, 8, 16, requires_grad=True), torch.tensor([2, 3, 6]).int()
        torch._grouped_mm(a, b, offs=ends).sum().backward()
    assert a.grad is not None
    assert b.grad is not None
    assert (a.grad.shape, b.grad.shape) == (a.shape, b.shape)


@pytest.mark.filterwarnings("ignore:Sparse")
def test_a_sparse_tensor_that_is_turned_stays_real() -> None:
    """It is known then how many numbers it stores; any other result is fake."""
    x = torch.eye(3).to_sparse()
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    with faking(mode):
        turned = [x.t(), x.transpose(0, 1), x.detach(), x.clone(), x.t().clone().t()]
        made = [x * 2, torch.ones(3, 3).t(), torch.ones(3).clone()]
    assert [isinstance(y, FakeTensor) for y in turned] == [False] * 5
    assert [count_stored(y) for y in turned] == [3] * 5
    assert [isinstance(y, FakeTensor) for y in made] == [True] * 3


def test_what_does_not_fit_is_told() -> None:
    with faking(FakeTensorMode()):
        with pytest.raises(RuntimeError, match=r"contraction dimension of \(6, 7\) and \(3, 8, 16"):
            torch._grouped_mm(torch.ones(6, 7), torch.ones(3, 8, 16))
        with pytest.raises(RuntimeError, match="offsets are needed"):
            torch._grouped_mm(torch.ones(6, 8), torch.ones(8, 16))
        out = torch._grouped_mm(
            *(torch.ones(3, 6, 8), torch.ones(3, 8, 16)), out_dtype=torch.bfloat16
        )
    assert out.dtype == torch.bfloat16


TOKENS, WIDTH, EXPERTS, ACTIVE = 16, 32, 4, 2
COMMON = {
    **{"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 64},
    **{"num_key_value_heads": 2, "intermediate_size": 48, "num_experts_per_tok": ACTIVE},
}
# Configurations, and multiplications of the experts of one layer, for a token.
MIXTURES = {
    "Mixtral": ({"num_local_experts": EXPERTS}, ACTIVE * 3 * WIDTH * 48 + WIDTH * EXPERTS),
    "Qwen2Moe": (
        {
            **{"num_experts": EXPERTS, "moe_intermediate_size": 24},
            "shared_expert_intermediate_size": 40,
        },
        ACTIVE * 3 * WIDTH * 24 + 3 * WIDTH * 40 + WIDTH + WIDTH * EXPERTS,
    ),
    "Qwen3Moe": (
        {"num_experts": EXPERTS, "moe_intermediate_size": 24, "head_dim": 8},
        ACTIVE * 3 * WIDTH * 24 + WIDTH * EXPERTS,
    ),
}


@pytest.mark.parametrize("device", ["meta", "cpu"])
@pytest.mark.parametrize("kind", MIXTURES)
def test_mixtures_of_experts(kind: str, device: str) -> None:
    pytest.importorskip("transformers", reason="needs transformers")
    settings, experts = MIXTURES[kind]
    model = from_transformers(kind, "ForCausalLM", **COMMON, **settings)
    ids = {"input_ids": torch.zeros(2, TOKENS // 2, dtype=torch.long), "use_cache": False}
    found = fmstats.analyze(model, ids, device=device)
    # Queries and outputs of full width, keys and values of half; scores of 8 x 8 for 4 heads of 8.
    attention = TOKENS * (3 * WIDTH * WIDTH + 2 * (TOKENS // 2) * WIDTH)
    layer = attention + TOKENS * experts
    assert found.totals["macs"] == 2 * layer + TOKENS * WIDTH * 64
    assert found.unknown == ()
    assert found.totals["saved_for_backward_bytes"] > 0
    assert found.notes == ()
