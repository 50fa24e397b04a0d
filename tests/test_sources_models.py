"""Every form of MODEL gives a module, and every wrong one a single clear error."""

from __future__ import annotations

import sys
import types

import pytest
import torch

from fmstats.errors import FmstatsError
from fmstats.sources import load_model

NET = """
import torch
class Net(torch.nn.Sequential):
    def __init__(self, width=4):
        super().__init__(torch.nn.Conv2d(3, width, 3), torch.nn.ReLU())
ready = Net(width=5)
def make(): return Net(width=6)
def make_tuple(): return Net(), None
def make_badly(): raise RuntimeError("no such layer")
def make_wide(width): return Net(width)
number = 3
class Plain: ...
"""


@pytest.fixture
def net_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "some_net_file.py").write_text(NET)
    yield "some_net_file.py"
    for name in [name for name in sys.modules if "some_net_file" in name]:
        del sys.modules[name]


@pytest.mark.parametrize(("name", "width"), [("Net", 4), ("ready", 5), ("make", 6)])
@pytest.mark.parametrize("where", ["some_net_file.py", "some_net_file"])
def test_class_instance_and_function(net_file, where, name, width):
    model = load_model(f"{where}:{name}")
    assert model[0].out_channels == width


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("make_tuple", r"some_net_file.py:make_tuple' gave a tuple, not an nn.Module"),
        ("make_badly", r"RuntimeError: no such layer \(some_net_file.py, line 9\)"),
        ("make_wide", r"called without arguments but needs width"),
        ("number", r"is of type int, neither an nn.Module nor a callable giving one"),
        ("Plain", r"is a class that is not an nn.Module"),
        ("maker", r"closest: make"),
    ],
)
def test_wrong_attributes(net_file, name, message):
    with pytest.raises(FmstatsError, match=message):
        load_model(f"{net_file}:{name}")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("resnet50", r"model 'resnet50' is not understood; forms: 'package.module:callable'"),
        ("net.py", r"model 'net.py' is not understood: write net.py:NAME; forms"),
        ("absent.pt2", r"there is no exported program 'absent.pt2'"),
        ("", r"model '' is not understood"),
    ],
)
def test_wrong_specs(spec, message):
    with pytest.raises(FmstatsError, match=message):
        load_model(spec)


@pytest.mark.parametrize("library", ["torchvision", "timm", "transformers"])
def test_missing_library_names_the_package(library, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(FmstatsError, match=f"needs {library}: pip install {library}"):
        load_model(f"{library}:resnet50")


def test_torchvision_builds_without_weights(monkeypatch):
    asked = []

    def get_model(name, weights):
        asked.append((name, weights))
        return torch.nn.Identity()

    models = types.SimpleNamespace(list_models=lambda: ["resnet50", "vgg11"], get_model=get_model)
    package = types.ModuleType("torchvision")
    package.models = models
    monkeypatch.setitem(sys.modules, "torchvision", package)
    assert isinstance(load_model("torchvision:resnet50"), torch.nn.Identity)
    assert asked == [("resnet50", None)]
    with pytest.raises(
        FmstatsError, match="torchvision has no model named 'resnet5'; closest: res"
    ):
        load_model("torchvision:resnet5")


def test_timm_builds_without_weights_and_keeps_the_cause(monkeypatch):
    def create_model(name, pretrained):
        assert pretrained is False
        if name == "broken":
            raise RuntimeError("no head")
        return torch.nn.Identity()

    package = types.ModuleType("timm")
    package.list_models = lambda: ["resnet18", "broken"]
    package.create_model = create_model
    monkeypatch.setitem(sys.modules, "timm", package)
    assert isinstance(load_model("timm:resnet18"), torch.nn.Identity)
    with pytest.raises(FmstatsError, match="building 'timm:broken' raised RuntimeError: no head"):
        load_model("timm:broken")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_transformers_family_offline(monkeypatch):
    pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = load_model("transformers:mobilenet_v1")
    assert type(model).__name__ == "MobileNetV1Model"
    with pytest.raises(FmstatsError, match="is a checkpoint of a hub, and nothing is downloaded"):
        load_model("transformers:microsoft/resnet-50")
    with pytest.raises(FmstatsError, match=r"no model named 'resnett'; closest: .*resnet"):
        load_model("transformers:resnett")


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_exported_program_round_trip(tmp_path):
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()).eval()
    example = torch.randn(2, 3, 8, 8)
    sizes = ({0: torch.export.Dim("batch")},)
    path = tmp_path / "net.pt2"
    torch.export.save(torch.export.export(net, (example,), dynamic_shapes=sizes), path)

    loaded = load_model(str(path))
    fired = []
    for name, module in loaded.named_modules():
        module.register_forward_hook(lambda *_, name=name: fired.append(name))
    batch = torch.randn(5, 3, 8, 8)
    torch.testing.assert_close(loaded(batch), net(batch))
    assert fired == ["0", "1", ""]


def test_file_that_is_no_exported_program(tmp_path):
    path = tmp_path / "broken.pt2"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(FmstatsError, match=r"broken.pt2' cannot be read as an exported program"):
        load_model(str(path))
