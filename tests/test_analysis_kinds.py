"""What operations without a formula do: of all that torch registers, and all that `nn` reaches."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from analysis_models import recorded, unknown_in
from torch import Tensor, nn

from fmstats.analysis.formulas import has_formula
from fmstats.analysis.kinds import kind_of
from fmstats.analysis.records import CHEAP, MOVES, UNKNOWN

aten = torch.ops.aten

KINDS = {
    MOVES: [
        *(aten.view.default, aten.cat.default, aten.clone.default, aten.squeeze_.dim),
        *(aten.transpose_.default, aten.view_copy.default, aten.masked_fill.Tensor),
        *(aten.masked_fill_.Scalar, aten.scatter_.value, aten.im2col.default, aten.topk.default),
        *(aten._to_sparse.default, aten.unfold_copy.default, torch.ops.prim.layout.default),
        *(torch.ops._c10d_functional.wait_tensor.default, aten._foreach_copy.default),
    ],
    CHEAP: [
        *(aten.tanh.default, aten.sum.dim_IntList, aten.abs_.default, aten.hardswish_.default),
        *(aten._prelu_kernel.default, aten.log_sigmoid_forward.default, aten.mse_loss.default),
        *(aten.nll_loss2d_forward.default, aten.col2im.default, torch.ops.prims.add.default),
        *(aten.silu_backward.default, aten.native_layer_norm_backward.default),
        *(aten._softmax_backward_data.default, aten.glu_jvp.default, aten._foreach_add.List),
        # The gradient of what only moves numbers is a sum.
        *(aten.reflection_pad1d_backward.default, aten.select_backward.default),
        *(torch.ops._c10d_functional.all_reduce.default, torch.ops.quantized.add.default),
    ],
    UNKNOWN: [
        *(aten.mm.default, aten.convolution_backward.default, aten._foreach_mm.default),
        *(aten.linalg_eig.default, aten._cdist_backward.default),
        *(torch.ops.quantized.linear.default, torch.ops.quantized.conv2d.default),
        torch.ops.higher_order.cond,
    ],
}


@pytest.mark.parametrize(
    ("kind", "operation"), [(kind, each) for kind, listed in KINDS.items() for each in listed]
)
def test_kinds(kind: str, operation: Any) -> None:
    assert kind_of(operation) == kind


def test_an_operation_says_itself_that_it_is_pointwise() -> None:
    library = torch.library.Library("fmstats_kinds", "DEF")
    library.define("told(Tensor a) -> Tensor", tags=(torch.Tag.pointwise,))
    library.define("untold(Tensor a) -> Tensor")
    assert kind_of(torch.ops.fmstats_kinds.told.default) == CHEAP
    assert kind_of(torch.ops.fmstats_kinds.untold.default) == UNKNOWN


# What has no closed form, or is no part of a forward pass, or is reached by no module at all.
WITHOUT = """
    _amp_foreach_non_finite_check_and_unscale _amp_update_scale _cdist_backward _pdist_backward
    _cslt_sparse_mm_search _cudnn_attention_backward _cudnn_attention_forward _cudnn_rnn_backward
    _flash_attention_forward_no_dropout_inplace _foobar _fused_adagrad _fused_adam _fused_adamw
    _fused_sgd _linalg_eigh _linalg_eigvals _linalg_svd _native_multi_head_attention
    _philox_key_fold_in _philox_key_split _slow_conv2d_backward _sparse_mm_reduce_impl_backward
    _spsolve _transformer_encoder_layer_fwd _triton_multi_head_attention
    _triton_scaled_dot_attention convolution_backward_overrideable
    cudnn_affine_grid_generator_backward linalg_eig linalg_lstsq linalg_matrix_exp linear_backward
    lstm_mps_backward matmul_backward miopen_rnn_backward mkldnn_linear_backward
    mkldnn_linear_backward_input mkldnn_linear_backward_weights mkldnn_rnn_layer_backward
    mps_convolution_backward mps_convolution_transpose_backward ormqr
"""


def registered() -> Iterator[Any]:
    """All operations of `aten` that a dispatch mode can meet, but those for PyTorch's own tests."""
    names = {name.partition(".")[0] for name in torch._C._dispatch_get_all_op_names()}
    for name in sorted(n.removeprefix("aten::") for n in names if n.startswith("aten::")):
        packet = getattr(aten, name)
        overloads = [getattr(packet, overload) for overload in packet.overloads()]
        seen = [o for o in overloads if not _writes_into_out(o)]
        if seen and not (name.startswith("_test") or _is_composite(seen[0])):
            yield seen[0]


def _writes_into_out(overload: Any) -> bool:
    return torch.Tag.out in overload.tags or overload._overloadname.endswith("out")


def _is_composite(overload: Any) -> bool:
    name = overload.name()
    found: bool = torch._C._dispatch_has_kernel_for_dispatch_key(name, "CompositeImplicitAutograd")
    return found


@pytest.mark.skipif(
    not torch.__version__.startswith("2.13"), reason="needs the list of operations of torch 2.13"
)
def test_all_of_aten_is_known_but_what_has_no_closed_form() -> None:
    unknown = {
        operation._opname.removesuffix("_")
        for operation in registered()
        if not has_formula(operation) and kind_of(operation) == UNKNOWN
    }
    assert unknown == set(WITHOUT.split())


IMAGE, SPACE, TEXT = torch.rand(2, 4, 8, 8), torch.rand(2, 4, 8, 8, 8), torch.rand(2, 4, 8)
TARGETS = torch.tensor([0, 3])
SIGNS = torch.tensor([[1.0, -1, 1, -1]] * 2)
SEQUENCES = torch.rand(6, 2, 4).log_softmax(-1)
# Modules that need more than defaults: how they are made, and what they are given.
MADE: dict[str, tuple[Callable[[], nn.Module], tuple[object, ...]]] = {
    "AdaptiveLogSoftmaxWithLoss": (
        *(lambda: nn.AdaptiveLogSoftmaxWithLoss(4, 9, [3]), (torch.rand(2, 4), TARGETS)),
    ),
    "Bilinear": (lambda: nn.Bilinear(4, 4, 5), (torch.rand(2, 4), torch.rand(2, 4))),
    "CTCLoss": (nn.CTCLoss, (SEQUENCES, torch.ones(2, 3, dtype=torch.long), (6, 6), (3, 3))),
    "CosineEmbeddingLoss": (
        *(nn.CosineEmbeddingLoss, (torch.rand(2, 4), torch.rand(2, 4), SIGNS[0, :2])),
    ),
    "CrossEntropyLoss": (nn.CrossEntropyLoss, (torch.rand(2, 4), TARGETS)),
    "NLLLoss": (nn.NLLLoss, (torch.rand(2, 4), TARGETS)),
    "NLLLoss2d": (nn.NLLLoss, (IMAGE, torch.zeros(2, 8, 8, dtype=torch.long))),
    "Embedding": (lambda: nn.Embedding(9, 4, max_norm=1.0), (TARGETS,)),
    "EmbeddingBag": (lambda: nn.EmbeddingBag(9, 4), (TARGETS[None],)),
    "Flatten": (nn.Flatten, (IMAGE,)),
    "Fold": (lambda: nn.Fold((8, 8), 2, stride=2), (torch.rand(2, 16, 16),)),
    "FractionalMaxPool2d": (lambda: nn.FractionalMaxPool2d(2, output_size=4), (IMAGE,)),
    "FractionalMaxPool3d": (lambda: nn.FractionalMaxPool3d(2, output_size=4), (SPACE,)),
    "GaussianNLLLoss": (nn.GaussianNLLLoss, (torch.rand(2, 4), torch.rand(2, 4), torch.ones(2, 4))),
    "GroupNorm": (lambda: nn.GroupNorm(2, 4), (IMAGE,)),
    "HingeEmbeddingLoss": (nn.HingeEmbeddingLoss, (SIGNS, SIGNS)),
    "LinearCrossEntropyLoss": (
        *(lambda: nn.LinearCrossEntropyLoss(4, 9), (torch.rand(2, 4), TARGETS)),
    ),
    "MarginRankingLoss": (nn.MarginRankingLoss, (SIGNS, SIGNS, SIGNS)),
    "MultiLabelMarginLoss": (nn.MultiLabelMarginLoss, (torch.rand(2, 4), SIGNS.long() + 1)),
    "MultiMarginLoss": (nn.MultiMarginLoss, (torch.rand(2, 4), TARGETS)),
    "MultiheadAttention": (lambda: nn.MultiheadAttention(4, 2), (torch.rand(3, 2, 4),) * 3),
    "PairwiseDistance": (nn.PairwiseDistance, (torch.rand(2, 4), torch.rand(2, 4))),
    "CosineSimilarity": (nn.CosineSimilarity, (torch.rand(2, 4), torch.rand(2, 4))),
    "PixelUnshuffle": (lambda: nn.PixelUnshuffle(2), (IMAGE,)),
    "Softmin": (lambda: nn.Softmin(-1), (IMAGE,)),
    "Softmax": (lambda: nn.Softmax(-1), (IMAGE,)),
    "LogSoftmax": (lambda: nn.LogSoftmax(-1), (IMAGE,)),
    "Threshold": (lambda: nn.Threshold(0.5, 0.0), (IMAGE,)),
    "Transformer": (lambda: nn.Transformer(4, 2, 1, 1, 8), (torch.rand(3, 2, 4),) * 2),
    "TransformerDecoder": (
        lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 8), 1),
        (torch.rand(3, 2, 4),) * 2,
    ),
    "TransformerDecoderLayer": (
        *(lambda: nn.TransformerDecoderLayer(4, 2, 8), (torch.rand(3, 2, 4),) * 2),
    ),
    "TransformerEncoder": (
        lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8), 1),
        (torch.rand(3, 2, 4),),
    ),
    "TransformerEncoderLayer": (
        *(lambda: nn.TransformerEncoderLayer(4, 2, 8), (torch.rand(3, 2, 4),)),
    ),
    "TripletMarginLoss": (nn.TripletMarginLoss, (torch.rand(2, 4),) * 3),
    "TripletMarginWithDistanceLoss": (
        *(nn.TripletMarginWithDistanceLoss, (torch.rand(2, 4),) * 3),
    ),
    "Unflatten": (lambda: nn.Unflatten(1, (2, 2)), (IMAGE,)),
    "Unfold": (lambda: nn.Unfold(2), (IMAGE,)),
    "Upsample": (lambda: nn.Upsample(scale_factor=2, mode="bicubic"), (IMAGE,)),
    "LSTMCell": (lambda: nn.LSTMCell(4, 5), (torch.rand(2, 4),)),
    "GRUCell": (lambda: nn.GRUCell(4, 5), (torch.rand(2, 4),)),
    "RNNCell": (lambda: nn.RNNCell(4, 5), (torch.rand(2, 4),)),
}
# Those that have no forward pass of their own, or a base of others.
NONE = """
    Container LinearCrossEntropyOptions Module ModuleDict ModuleList ParameterDict ParameterList
    Sequential RNNBase RNNCellBase SyncBatchNorm DataParallel CrossMapLRN2d Buffer Parameter
    UninitializedBuffer UninitializedParameter
"""


def modules() -> list[str]:
    """All layers of `torch.nn` of which one can be made here."""
    names = [name for name in dir(nn) if inspect.isclass(getattr(nn, name))]
    rest = [name for name in names if name not in NONE.split() and not name.startswith("Lazy")]
    return sorted({*rest, *(name for name in MADE if hasattr(nn, name)), "NLLLoss2d"})


def make(name: str) -> tuple[nn.Module, tuple[object, ...]]:
    if name in MADE:
        build, args = MADE[name]
        return build(), args
    kind = getattr(nn, name)
    dims = int(name[-2]) if name.endswith(("1d", "2d", "3d")) else 2
    x = {1: TEXT, 2: IMAGE, 3: SPACE}[dims]
    if name in ("Linear", "LayerNorm", "RMSNorm"):
        return kind(8, 8) if name == "Linear" else kind(8), (x,)
    if name.startswith("Conv"):
        return kind(4, 5, 3), (x,)
    if name.startswith(("RNN", "GRU", "LSTM")):
        return kind(4, 5), (torch.rand(6, 2, 4),)
    if name.startswith(("MaxUnpool",)):
        pooled = getattr(F, f"max_pool{dims}d")(x, 2, return_indices=True)
        return kind(2), pooled
    if "Loss" in name:
        return kind(), (torch.rand(2, 4), torch.rand(2, 4).round())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for given in ((), (4,), (2,), (4, 4)):
            try:
                layer = kind(*given)
                if not isinstance(layer(x), Tensor):
                    continue
            except (TypeError, RuntimeError, ValueError):
                continue
            return layer, (x,)
    raise AssertionError(f"the test does not know how to make nn.{name}")


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", modules())
def test_layers_of_torch_do_nothing_unknown(name: str) -> None:
    layer, args = make(name)
    # Only what multiplies matrices costs more than a few operations an element.
    multiplies = ("Conv", "Linear", "RNN", "GRU", "LSTM", "Bilinear", "Transformer", "Multihead")
    products = name.startswith(multiplies) or name == "AdaptiveLogSoftmaxWithLoss"
    for training in (True, False):
        seen = recorded(layer.train(training), *args)
        assert unknown_in(seen) == []
        assert (seen.flops > 0) == products


# Functions that no module calls.
FUNCTIONS: dict[str, Callable[[], object]] = {
    "rrelu_": lambda: F.rrelu_(IMAGE.clone(), training=True),
    "hardswish_": lambda: F.hardswish(IMAGE.clone(), inplace=True),
    "gumbel_softmax": lambda: F.gumbel_softmax(TEXT),
    "grid_sample": lambda: F.grid_sample(IMAGE, torch.rand(2, 3, 3, 2), align_corners=False),
    "grid_sample 3d": lambda: F.grid_sample(SPACE, torch.rand(2, 3, 3, 3, 3), align_corners=False),
    "one_hot": lambda: F.one_hot(TARGETS),
    "normalize": lambda: F.normalize(IMAGE),
    "poisson_nll_loss": lambda: F.poisson_nll_loss(TEXT, TEXT, full=True),
    "kl_div": lambda: F.kl_div(TEXT, TEXT),
    "lp_pool": lambda: [F.lp_pool1d(TEXT, 2, 2), F.lp_pool2d(IMAGE, 2, 2)],
    "pad": lambda: [F.pad(IMAGE, (1,) * 4, mode) for mode in ("constant", "reflect", "circular")],
    "interpolate": lambda: [
        F.interpolate(IMAGE, scale_factor=0.5, mode=mode, antialias=mode.startswith("bi"))
        for mode in ("nearest", "nearest-exact", "area", "bilinear", "bicubic")
    ],
    "embedding_bag": lambda: F.embedding_bag(TARGETS, torch.rand(9, 4), TARGETS - TARGETS),
    "huber_loss": lambda: [F.huber_loss(TEXT, TEXT), F.smooth_l1_loss(TEXT, TEXT)],
    "masked": lambda: TEXT.masked_fill(TEXT > 0.5, 0).masked_scatter(TEXT > 0.5, TEXT),
    "unique": lambda: [TARGETS.unique(), TARGETS.unique_consecutive(), TARGETS.bincount()],
    "segments": lambda: torch.segment_reduce(torch.rand(6), "sum", lengths=torch.tensor([2, 4])),
    "search": lambda: torch.searchsorted(torch.arange(9.0), torch.rand(4)),
    "sample": lambda: [torch.normal(TEXT, TEXT), torch.poisson(TEXT), torch.bernoulli(TEXT)],
    "index": lambda: TEXT.index_reduce(0, TARGETS.clamp(max=1), TEXT, "amax"),
    "triangles": lambda: [torch.tril_indices(4, 4), TEXT[0].trace(), torch.block_diag(TEXT[0])],
}


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_torch_do_nothing_unknown(name: str) -> None:
    seen = recorded(FUNCTIONS[name])
    assert unknown_in(seen) == []
    assert seen.flops == 0
