"""A checkpoint stands for weights, code, settings and data: a change is noticed and named."""

from __future__ import annotations

import copy
import functools
import os
import subprocess
import sys
import threading
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import fmstats
from fmstats.runs.identity import describe_model, describe_options, find_differences

OFFSET = 1.0
LOCAL = threading.local()


def helper(x):
    return x + OFFSET


class Net(nn.Module):
    """Has something of every kind that its results depend on."""

    factor = 2.0

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.register_buffer("hidden", torch.ones(4, 1, 1), persistent=False)
        self.plain = torch.zeros(4, 1, 1)
        self.shapes = {"pads": [1, 2], "names": {"b", "a"}}
        self.act = torch.relu
        self.scale_by = lambda x: x * 3
        self.extra = {"level": torch.zeros(2)}

    def get_extra_state(self):
        return self.extra

    def set_extra_state(self, state):
        self.extra = state

    @property
    def half(self):
        return 0.5

    @staticmethod
    def shift(x):
        return x - 1

    def inner(self, x):
        return helper(x) * self.half * self.factor

    def forward(self, x, gain=1.0):
        """Everything."""
        x = self.norm(self.conv(x)) * self.hidden + self.plain
        return self.scale_by(self.act(self.inner(self.shift(x)))) * gain

    def training_step(self, batch):
        return self(batch).sum()


def content(model):
    return describe_model(model)["content"]


def differences(there, here):
    return find_differences(content(there), content(here))


def test_the_same_model_has_the_same_identity():
    assert describe_model(Net()) == describe_model(Net())
    assert describe_model(Net())["unknown"] == []
    model = Net().to(memory_format=torch.channels_last).train()
    model.norm.requires_grad_(False)
    assert differences(Net(), model) == []
    assert differences(Net(), torch.compile(Net(), backend="eager")) == []
    noted = Net()
    noted._compile_kwargs = {"backend": "eager"}  # as torch.compile does once Lightning is imported
    assert differences(Net(), noted) == []
    with fmstats.track(model):  # its hooks change nothing
        assert differences(Net(), model) == []
    tied = Net()
    tied.again = tied.conv
    tied.conv.bias = nn.Parameter(tied.conv.bias.detach().clone())
    assert differences(tied, tied) == []


@torch.no_grad()
def add(tensor, place=-1):
    tensor.view(-1)[place] += 1


WEIGHTS = {
    "a parameter": (lambda m: add(m.conv.weight, 57), "the values of conv.weight"),
    "a buffer": (lambda m: add(m.norm.running_var, 2), "the values of norm.running_var"),
    "a hidden buffer": (lambda m: add(m.hidden), "the values of hidden"),
    "a new buffer": (lambda m: m.register_buffer("b", torch.ones(1)), "the values of b"),
    "several": (
        lambda m: [add(t) for t in m.state_dict().values() if isinstance(t, torch.Tensor)],
        "the values of conv.weight, conv.bias, norm.weight and 4 more",
    ),
}
SETTINGS = {
    "a plain tensor": lambda m: add(m.plain, 1),
    "extra state": lambda m: add(m.extra["level"], 1),
    "stride": lambda m: setattr(m.conv, "stride", (2, 2)),
    "eps": lambda m: setattr(m.norm, "eps", 1e-4),
    "a flag": lambda m: setattr(m, "flag", True),
    "in a container": lambda m: m.shapes["pads"].append(3),
    "in a set": lambda m: m.shapes["names"].add("c"),
    "an operation": lambda m: setattr(m, "act", torch.sigmoid),
    "a lambda": lambda m: setattr(m, "scale_by", lambda x: x * 4),
    "a partial": lambda m: setattr(m, "scale_by", functools.partial(torch.mul, other=3)),
    "a forward of its own": lambda m: setattr(m, "forward", lambda x: x),
    "a forward of a layer": lambda m: setattr(
        m.conv,
        "forward",
        types.MethodType(lambda self, x: self._conv_forward(x, None, None), m.conv),
    ),
    "a hook": lambda m: m.conv.register_forward_hook(lambda module, args, out: out * 2),
    "a hook before": lambda m: m.conv.register_forward_pre_hook(lambda module, args: args),
    "an object": lambda m: setattr(m, "config", types.SimpleNamespace(p=1)),
    "an array": lambda m: setattr(m, "table", np.arange(3)),
    "a module in a list": lambda m: setattr(m, "others", [nn.Linear(2, 2)]),
}


@pytest.mark.parametrize("kind", WEIGHTS)
def test_weights_that_differ_are_named(kind):
    change, named = WEIGHTS[kind]
    model = Net()
    change(model)
    assert differences(Net(), model) == [f"{named} differ"]


@pytest.mark.parametrize("kind", SETTINGS)
def test_settings_that_differ_are_named(kind):
    model = Net()
    SETTINGS[kind](model)
    (told,) = differences(Net(), model)
    assert told.startswith("attributes or hooks of '")
    assert told.endswith(" differ")
    assert differences(model, model) == []


def test_what_differs_within_an_attribute_is_noticed():
    def with_config(**values):
        model = Net()
        model.config = types.SimpleNamespace(**values, own=None)
        model.config.own = model.config
        model.others = [nn.Linear(2, 2), {"deep": (nn.Dropout(values["p"]),)}]
        model.random = np.random.default_rng(values["seed"])
        model.table = np.arange(6.0).reshape(2, 3)
        model.table[1, 2] = values["last"]
        return model

    same = {"p": 0.5, "seed": 1, "last": 5.0}
    assert describe_model(with_config(**same))["unknown"] == []
    changes = ({}, {"p": 0.25}, {"seed": 2}, {"last": 6.0})
    models = [with_config(**{**same, **change}) for change in changes]
    models.append(with_config(**same))
    torch.nn.init.zeros_(models[-1].others[0].weight)
    found = [content(model)["settings"]["digest"] for model in (with_config(**same), *models)]
    assert found[0] == found[1]
    assert len(set(found)) == len(models)


def test_hooks_for_all_modules_are_noticed():
    before = content(Net())
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, out: None)
    try:
        (told,) = find_differences(before, content(Net()))
    finally:
        handle.remove()
    assert told == "attributes or hooks of all modules differ"


def test_parametrizations_are_noticed():
    def parametrized(factor):
        class Times(nn.Module):
            def __init__(self):
                super().__init__()
                self.factor = factor

            def forward(self, weight):
                return weight * self.factor

        model = Net()
        nn.utils.parametrize.register_parametrization(model.conv, "weight", Times())
        return model

    assert differences(parametrized(2), parametrized(2)) == []
    assert differences(parametrized(2), parametrized(3)) == [
        "attributes or hooks of 'conv.parametrizations.weight.0' differ"
    ]
    other = parametrized(2)
    add(other.conv.parametrizations.weight.original, 3)
    assert differences(parametrized(2), other) == [
        "the values of conv.parametrizations.weight.original differ"
    ]


SOURCE = """
import torch
from torch import nn
{head}
FACTORS = {{"by": {factor}}}
def helper(x): return x * FACTORS["by"]
def wrapped(function):
    def call(*args): return function(*args) {wrapper}
    return call
class Part:
    def __init__(self): self.by = 2
    def __call__(self, x): return x * self.by {part}
class Base(nn.Module):
    def forward(self, x): return {base}
class Net(Base):
    by = {by}
    def __init__(self):
        super().__init__()
        self.part = Part()
    def training_step(self, x): return {unused}
    @property
    def two(self): return {two}
    @wrapped
    def inner(self, x, gain={gain}): return x * gain
    def forward(self, x):
        {doc}
        rows = [value for value in x if {comprehended}]
        return self.inner(self.part(helper(super().forward(x)))) * self.by * self.two
"""
USUAL = {
    **{"head": "", "factor": 2, "wrapper": "", "part": "", "base": "x", "by": 1, "unused": 1},
    **{"two": 2, "gain": 1.0, "doc": "'''Runs.'''", "comprehended": "True"},
}


def net_of(folder, **changes):
    """A model of a file of its own, and the file it is in."""
    folder.mkdir(exist_ok=True)
    path = folder / "some_identity_net.py"
    path.write_text(SOURCE.format(**{**USUAL, **changes}))
    return fmstats.sources.load_model(f"{path}:Net")


@pytest.fixture
def _path(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in [name for name in sys.modules if "some_identity_net" in name]:
        del sys.modules[name]


@pytest.mark.usefixtures("_path")
@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"factor": 3}, "the code of Net"),
        ({"wrapper": "+ 1"}, "the code of Net"),
        ({"part": "+ 1"}, "attributes or hooks of ''"),
        ({"base": "x + 1"}, "the code of Net"),
        ({"by": 3}, "the code of Net"),
        ({"two": 3}, "the code of Net"),
        ({"gain": 3.0}, "the code of Net"),
        ({"gain": 1}, "the code of Net"),
        ({"comprehended": "value is not None"}, "the code of Net"),
        ({"comprehended": "value in {'a', 'b'}"}, "the code of Net"),
    ],
    ids=str,
)
def test_code_that_differs_is_named(tmp_path, change, named):
    before = net_of(tmp_path / "a")
    assert differences(before, net_of(tmp_path / "b", **change)) == [f"{named} differ"]


@pytest.mark.usefixtures("_path")
@pytest.mark.parametrize(
    "change",
    [{}, {"unused": 2}, {"doc": "'''Runs it all.'''"}, {"head": "# A line more.\nUNUSED = 3"}],
    ids=str,
)
def test_code_that_makes_no_difference(tmp_path, change):
    assert differences(net_of(tmp_path / "a"), net_of(tmp_path / "b", **change)) == []


def test_other_processes_have_the_same_identity(tmp_path):
    """Hashes of texts differ from process to process, and so does the order of sets."""
    code = (
        "import test_run_identity as t, json; "
        "print(json.dumps(t.describe_model(t.Net()), sort_keys=True))"
    )
    found = set()
    for seed in ("1", "2"):
        paths = [str(Path(fmstats.__file__).parents[1]), str(Path(__file__).parent)]
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(paths)},
            capture_output=True,
            text=True,
            check=True,
        )
        found.add(done.stdout)
    assert len(found) == 1


def test_what_cannot_be_told_is_listed():
    model = Net()
    assert describe_model(model)["unknown"] == []
    model.lock, model.local = threading.Lock(), LOCAL  # of the process, and no results
    assert describe_model(model)["unknown"] == []
    model.stream = iter([1, 2])
    model.frames = (x for x in range(3))
    (told,) = describe_model(model)["unknown"]
    assert told == "layer '': attribute ['frames'] (builtins.generator)"
    lazy = nn.Sequential(nn.LazyLinear(3))
    assert describe_model(lazy)["unknown"] == [
        "0.weight (it gets its values in the first pass)",
        "0.bias (it gets its values in the first pass)",
    ]


def test_what_is_taken_out_of_another_module_counts():
    def model(double="x * 2", offset=1, unused=1):
        inner, helpers = types.ModuleType("some_helpers.inner"), types.ModuleType("some_helpers")
        exec(f"def double(x): return {double}", vars(inner))
        helpers.inner, helpers.OFFSET, helpers.UNUSED = inner, offset, unused
        names = {"helpers": helpers, "__name__": "some_net"}
        exec("def act(x): return helpers.inner.double(x) + helpers.OFFSET", names)
        made = Net()
        made.act = names["act"]
        return made

    assert differences(model(), model()) == differences(model(), model(unused=2)) == []
    for other in ({"double": "x * 3"}, {"offset": 2}):
        assert differences(model(), model(**other)) == ["attributes or hooks of '' differ"]


def custom(x):
    return torch.ops.some_identity_namespace.double(x)


def test_custom_operations_cannot_be_told():
    library = torch.library.Library("some_identity_namespace", "DEF")
    library.define("double(Tensor x) -> Tensor")
    assert str(torch.ops.some_identity_namespace.double)  # as soon as it has been used
    model = Net()
    model.act = custom
    assert describe_model(model)["unknown"] == [
        "operations torch.ops.some_identity_namespace (called in custom())"
    ]


def test_many_parts_are_told_as_one():
    def model(value):
        net = nn.Sequential(*(nn.Identity() for _ in range(1100)))
        net[1099].value = value
        for number in range(1100):
            net.register_buffer(f"b{number}", torch.full((1,), float(number * value)))
        return net

    there, here = content(model(1)), content(model(2))
    assert there["weights"]["parts"] == {}
    assert find_differences(there, here) == [
        "the values of some of them differ",
        "attributes or hooks of some modules differ",
    ]


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_scripted_models():
    def scripted(factor, scale):
        class Scripted(nn.Module):
            def __init__(self):
                super().__init__()
                self.linear = nn.Linear(2, 2)
                self.scale = scale

            def forward(self, x):
                return self.linear(x) * self.scale

        torch.manual_seed(0)
        net = nn.Sequential(torch.jit.script(Scripted()), nn.ReLU())
        add(net[0].linear.weight) if factor > 1 else None
        return net

    assert describe_model(scripted(1, 1.0))["unknown"] == []
    assert differences(scripted(1, 1.0), scripted(1, 1.0)) == []
    assert differences(scripted(1, 1.0), scripted(1, 2.0)) == [
        "the code of the scripted module '0' differ"
    ]
    assert "the values of 0.linear.weight differ" in differences(scripted(1, 1.0), scripted(2, 1.0))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
def test_a_scripted_module_is_told_as_one_with_its_parts():
    parts = [nn.Sequential(nn.Linear(2, 2), nn.ReLU()), nn.Linear(2, 2)]
    scripted = [torch.jit.script(part) for part in parts]
    net = nn.Sequential(*(nn.Identity() for _ in range(11)))
    net[1], net[10] = scripted  # neither is a part of the other, as 1 and 10 could be read
    assert list(content(net)["code"]["parts"]) == [
        "the scripted module '1'",
        "the scripted module '10'",
    ]
    assert list(content(scripted[0])["code"]["parts"]) == ["the scripted module ''"]
    assert "1.0.weight" in content(net)["weights"]["parts"]


def test_options_are_told_by_what_they_do():
    def wanted(name, module):
        return name == "conv"

    first = describe_options({"include": wanted, "exclude": nn.ReLU})

    def wanted(name, module):
        return name == "norm"

    second = describe_options({"include": wanted, "exclude": nn.ReLU})
    assert first["exclude"] == second["exclude"] == "torch.nn.modules.activation.ReLU"
    assert first["include"] != second["include"]
    assert first["include"].startswith("test_options_are_told_by_what_they_do.<locals>.wanted (")


def test_quantized_layers():
    """Their weights are packed: in objects of another language, which give them out."""

    def quantized(value):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
        with torch.no_grad():
            net[0].weight[2, 3] = value
        return torch.ao.quantization.quantize_dynamic(net, {nn.Linear}, torch.qint8)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecated
        models = [quantized(value) for value in (0.1, 0.1, 0.4)]
        assert describe_model(models[0])["unknown"] == []
        assert differences(models[0], models[1]) == []
        (told,) = differences(models[0], models[2])
    assert told.startswith("attributes or hooks of ")


def test_a_module_under_two_names_or_within_itself_is_told_once():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    net.add_module("again", net[0])
    net[1].add_module("inner", net[0])
    net[1].add_module("whole", net)
    assert list(content(net)["weights"]["parts"]) == ["0.weight", "0.bias"]


def exported(folder):
    path = folder / "net.pt2"
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    if not path.exists():
        torch.export.save(torch.export.export(net, (torch.rand(2, 3, 8, 8),)), path)
    return fmstats.sources.load_model(str(path))


def encoder():
    layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


MODELS = {
    "exported": (exported, (2, 3, 8, 8)),
    "traced": (lambda folder: torch.fx.symbolic_trace(nn.Sequential(nn.Linear(3, 4))), (2, 3)),
    "recurrent": (lambda folder: nn.LSTM(3, 4), (5, 2, 3)),
    "attention": (lambda folder: encoder(), (2, 5, 8)),
    "weight norm": (lambda folder: nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)), (2, 3)),
}


@pytest.mark.parametrize("kind", MODELS)
def test_usual_models_are_told_and_a_pass_or_a_copy_changes_nothing(tmp_path, kind):
    make, shape = MODELS[kind]
    model = make(tmp_path)
    before = describe_model(model)
    assert before["unknown"] == []
    with torch.no_grad():
        model(torch.rand(shape))
    assert describe_model(model) == before
    if kind not in ("exported", "traced"):  # PyTorch copies these as other classes
        assert describe_model(copy.deepcopy(model)) == before


def below(most, args, kwargs):
    return args[0] < most


class Below:
    def __init__(self, most):
        self.most = most

    def __call__(self, args, kwargs):
        return below(self.most, args, kwargs)

    def again(self, args, kwargs):
        return below(self.most, args, kwargs)


class Above(Below):
    def __call__(self, args, kwargs):
        return args[0] > self.most


def test_functions_among_options_are_told_apart_by_code_and_what_they_are_given():
    def describe(mask):
        return describe_options({"mask": mask})["mask"]

    assert describe(functools.partial(below, 3)) == describe(functools.partial(below, 3))
    assert describe(functools.partial(below, 3)) != describe(functools.partial(below, 2))
    assert describe(Below(3)) == describe(Below(3))
    assert describe(Below(3)) != describe(Above(3))
    assert describe(Below(3).again) == describe(Below(3).again)
    assert describe(Below(3).again) != describe(Below(3).__call__)
    assert " at 0x" not in str([describe(each) for each in (Below(3), Below(3).again, Below)])
