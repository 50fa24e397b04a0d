"""The demo's network: the published structure, and weights that are the published ones."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from fmstats.demo import mobilenet
from fmstats.demo.packages import WEIGHTS, find_file, find_folder
from fmstats.errors import FmstatsError

needs_weights = pytest.mark.skipif(
    find_folder(WEIGHTS) is None, reason=f"not installed: {WEIGHTS.distribution}"
)


def test_parameter_count_is_the_published_one() -> None:
    model = mobilenet.MobileNetV2()
    assert sum(parameter.numel() for parameter in model.parameters()) == 3_504_872


def test_feature_map_sizes_follow_table_2() -> None:
    model = mobilenet.MobileNetV2().eval()
    sizes = []
    for block in model.features:
        block.register_forward_hook(lambda _m, _i, output: sizes.append(tuple(output.shape[1:])))
    with torch.inference_mode():
        logits = model(torch.zeros(2, 3, 224, 224))
    assert logits.shape == (2, 1000)
    assert list(dict.fromkeys(sizes)) == [
        (32, 112, 112),
        (16, 112, 112),
        (24, 56, 56),
        (32, 28, 28),
        (64, 14, 14),
        (96, 14, 14),
        (160, 7, 7),
        (320, 7, 7),
        (1280, 7, 7),
    ]


def test_shortcut_adds_the_input() -> None:
    block = mobilenet.InvertedResidual(8, 8, stride=1, expansion=6).eval()
    x = torch.randn(1, 8, 5, 5, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(block(x), x + block.conv(x))
    assert not mobilenet.InvertedResidual(8, 8, stride=2, expansion=6).has_shortcut
    assert not mobilenet.InvertedResidual(8, 16, stride=1, expansion=6).has_shortcut


@needs_weights
def test_keys_and_shapes_equal_the_checkpoint() -> None:
    path = find_file(WEIGHTS, "weights", mobilenet.WEIGHTS_FILE)
    stored = torch.load(path, map_location="cpu", weights_only=True)
    ours = mobilenet.MobileNetV2().state_dict()
    assert {key: (value.shape, value.dtype) for key, value in ours.items()} == {
        key: (value.shape, value.dtype) for key, value in stored.items()
    }


@needs_weights
def test_pretrained_network_is_in_eval_mode_with_stored_weights() -> None:
    model = mobilenet.load_pretrained()
    assert not any(module.training for module in model.modules())
    path = find_file(WEIGHTS, "weights", mobilenet.WEIGHTS_FILE)
    stored = torch.load(path, map_location="cpu", weights_only=True)
    assert all(torch.equal(value, stored[key]) for key, value in model.state_dict().items())


def test_altered_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / mobilenet.WEIGHTS_FILE
    path.write_bytes(b"not the published weights")
    monkeypatch.setattr(mobilenet, "find_file", lambda *_: path)
    with pytest.raises(FmstatsError, match=r"has SHA-256 [0-9a-f]{8}\.\.\..*not the published"):
        mobilenet.load_pretrained()
