"""Models that share, cache, count or change things in their forward pass."""

from __future__ import annotations

import functools
import random
import threading
import types
import weakref
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

Made = tuple[nn.Module, tuple[Any, ...]]

X = torch.linspace(-1, 1, 8).reshape(2, 4)


class Doing(nn.Module):
    """A layer, and whatever `do(module, x)` does before it."""

    def __init__(self, do: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.layer, self.do = nn.Linear(4, 4), do

    def forward(self, x: Tensor, *more: Any) -> Tensor:
        made = self.do(self, x, *more)
        return self.layer(x if made is None else made)


def tied() -> Made:
    layer = nn.Linear(4, 4)
    return nn.Sequential(layer, nn.ReLU(), layer), (X,)


class TiedWords(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(10, 4), nn.Linear(4, 10, bias=False)
        self.head.weight = self.words.weight

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(self.words(ids))


def tied_words() -> Made:
    return TiedWords(), (torch.arange(6).reshape(2, 3),)


def shared_norm() -> Made:
    norm = nn.BatchNorm2d(3)
    return nn.Sequential(norm, nn.Conv2d(3, 3, 1), norm).train(), (torch.randn(2, 3, 4, 4),)


class Views(nn.Module):
    """Buffers and parameters that are parts of one another's memory."""

    def __init__(self) -> None:
        super().__init__()
        whole = torch.arange(16.0)
        self.weight = nn.Parameter(whole[:8].view(2, 4))
        self.register_buffer("rest", whole[8:])
        self.whole = whole
        self.other_layer = nn.Linear(4, 4)
        self.other_layer.weight.data = torch.eye(4).expand(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        self.rest.add_(1)
        self.whole[0] = 5
        return self.other_layer(x) @ self.weight.T


class Cache:
    def __init__(self) -> None:
        self.seen: dict[Any, Tensor] = {}
        self.last: Tensor | None = None


class Slots:
    __slots__ = ("__secret", "last", "seen")

    def __init__(self) -> None:
        self.seen: list[Tensor] = []
        self.__secret: list[Tensor] = []

    def take(self, x: Tensor) -> None:
        self.seen.append(x)
        self.__secret.append(x)
        self.last = x


class Refusing(Cache):
    """Cannot be copied."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("mine alone")


class Closing(Cache):
    """Lets go of something when it dies."""

    def __del__(self) -> None:
        self.seen.clear()


def helper(kind: Callable[[], Any]) -> Made:
    model = Doing(
        lambda m, x: (m.helper.seen.__setitem__(1, x * 2), setattr(m.helper, "last", x))[2:]
    )
    model.do = _fill_helper
    model.helper = kind()
    return model, (X,)


def _fill_helper(module: Any, x: Tensor) -> None:
    module.helper.seen[x.shape] = x * 2
    module.helper.last = x + 1
    module.helper.new = x.sum()


def _fill_slots(module: Any, x: Tensor) -> None:
    module.helper.take(x * 2)


def slots() -> Made:
    model = Doing(_fill_slots)
    model.helper = Slots()
    return model, (X,)


def _fill_containers(module: Any, x: Tensor) -> None:
    module.listed.append(x * 2)
    module.named["x"] = x * 3
    module.grouped[1].append(x)
    module.ordered["x"] = x
    module.kinds.add("x")
    module.nested[0]["y"] = x
    module.array += 1
    module.weak[module] = x * 2


def containers() -> Made:
    model = Doing(_fill_containers)
    model.listed, model.named, model.grouped = [], {"old": torch.ones(2)}, defaultdict(list)
    model.ordered, model.kinds, model.nested = OrderedDict(), set(), ({},)
    model.array, model.weak = np.zeros(3), weakref.WeakKeyDictionary()
    return model, (X,)


def _fill_attributes(module: Any, x: Tensor) -> None:
    module.pe = x * 2
    module.plain = x * 3
    module.grown.add_(1)
    module.large.mul_(2)
    module.register_buffer("late", x.clone())
    module.count += 1
    if hasattr(module, "gone"):
        del module.gone
    module.layer.bias.data.add_(1)
    module.layer.weight.requires_grad_(False)
    module.layer.eval()
    module.made = nn.Linear(4, 4)
    module.layer.register_forward_hook(lambda *_: None)
    x.add_(module.made(x))


def attributes() -> Made:
    model = Doing(_fill_attributes)
    model.register_buffer("pe", None)
    model.grown, model.large, model.count, model.gone = torch.zeros(3), torch.zeros(40000), 0, 1
    return model, (X.clone(),)


def one_part_made_in_forward() -> Made:
    def make(module: Any, x: Tensor) -> Tensor:
        if not hasattr(module, "made"):
            module.made = nn.Linear(4, 4)
        return module.made(x)

    return Doing(make), (X,)


TABLE: dict[Any, Tensor] = {}
LAST: Tensor | None = None
SHARED = nn.BatchNorm1d(4)


@functools.lru_cache(16)
def positions(length: int) -> Tensor:
    return torch.arange(float(length))


@functools.cache
def positions_of_module(module: Any) -> Tensor:
    return module.layer.weight * 2


def _fill_globals(module: Any, x: Tensor) -> Tensor:
    global LAST, NEW
    TABLE[x.shape] = x * 2
    LAST = x
    NEW = x
    Doing.of_class = x
    Counting.seen[1] = x
    Counting.total += 1
    return SHARED(x + positions(4) + positions_of_module(module).sum())


class Counting:
    seen: ClassVar[dict[Any, Any]] = {}
    total = 0


def in_globals() -> Made:
    positions(4)
    return Doing(_fill_globals).train(), (X,)


def in_closures() -> Made:
    seen, last, calls = [], None, 0

    class Local(nn.Module):
        known: ClassVar[dict[Any, Any]] = {}

        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        @functools.lru_cache(8)  # noqa: B019
        def scale(self, n: int) -> Tensor:
            return torch.ones(n) * n

        def forward(self, x: Tensor, cache: dict[Any, Any] = {}) -> Tensor:  # noqa: B006
            nonlocal last, calls
            seen.append(x)
            last, calls = x, calls + 1
            self.known["x"] = cache["x"] = x
            type(self).latest = x
            return self.layer(x * self.scale(4))

    return Local(), (X,)


def instance_functions() -> Made:
    """As some libraries patch a module: its forward is a function that closes over another one."""
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    seen: list[Any] = []

    def patched(self: Any, old: Any, x: Tensor) -> Tensor:
        seen.append(self)
        self.last = x * 2
        return old(x)

    part = model[0]
    part.forward = types.MethodType(functools.partial(patched, old=part.forward), part)
    part.forward = functools.partial(patched, part, part.forward.__func__.keywords["old"])
    part.keep = seen.append
    part.cached = functools.lru_cache(None)(lambda n: torch.ones(n))
    return model, (X,)


class Monitor:
    def __init__(self, model: nn.Module) -> None:
        self.model, self.seen = model, []

    def hook(self, module: nn.Module, args: Any, output: Tensor) -> None:
        self.seen.append(output)
        self.model.latest = output


def hooks() -> Made:
    model, seen = nn.Sequential(nn.Linear(4, 4), nn.ReLU()), []
    monitor = Monitor(model)
    model.handle = model[0].register_forward_hook(monitor.hook)
    model[0].register_forward_hook(lambda module, args, output: seen.append(output))
    model[1].register_forward_pre_hook(functools.partial(lambda to, m, args: to.append(args), seen))
    return model, (X,)


def settings() -> Made:
    def change(module: Any, x: Tensor) -> None:
        torch.manual_seed(3)
        random.seed(3)
        np.random.seed(3)
        torch.set_default_dtype(torch.float64)
        torch.use_deterministic_algorithms(True)
        torch.set_float32_matmul_precision("medium")
        module.generator.manual_seed(4)
        random.random()

    model = Doing(change)
    model.generator = torch.Generator()
    return model, (X,)


def what_cannot_be_copied() -> Made:
    model = Doing(lambda m, x: m.lock.__enter__() and m.lock.__exit__(None, None, None))
    model.lock, model.thread = threading.Lock(), threading.current_thread()
    model.stream = (n for n in range(3))
    model.computed = (model.layer.weight * 2).T  # not a leaf
    model.weakly = weakref.ref(model)
    model.local = threading.local()
    model.local.seen = []
    return model, (X,)


class Adapter(nn.Linear):
    """A low-rank part that is in the weight in evaluation mode."""

    def __init__(self) -> None:
        super().__init__(4, 4)
        self.down, self.up = nn.Parameter(torch.randn(2, 4)), nn.Parameter(torch.randn(4, 2))
        self.merged = False

    def train(self, mode: bool = True) -> Adapter:
        if mode == self.merged:
            self.weight.data += (-1 if mode else 1) * (self.up @ self.down)
            self.merged = not mode
        return super().train(mode)


def adapter() -> Made:
    return nn.Sequential(Adapter(), nn.ReLU()).train(), (X,)


def parametrized() -> Made:
    layers = (parametrizations.weight_norm(nn.Linear(4, 4)), nn.ReLU())
    return nn.Sequential(*layers, parametrizations.spectral_norm(nn.Linear(4, 4))).train(), (X,)


def old_norms() -> Made:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = nn.utils.weight_norm(nn.Linear(4, 4))
        return nn.Sequential(first, nn.utils.spectral_norm(nn.Linear(4, 4))).train(), (X,)


def recurrent() -> Made:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(4, 4, num_layers=2, batch_first=True)
            self.state: Any = None

        def forward(self, x: Tensor) -> Tensor:
            y, self.state = self.lstm(x, self.state)
            return y

    return Net(), (torch.randn(2, 3, 4),)


def with_gradients() -> Made:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    model(X).sum().backward()
    model[0].weight.register_hook(lambda g: g * 2)
    model[0].bias.requires_grad_(False)
    return model, (X.clone().requires_grad_(),)


def scripted() -> Made:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        part = torch.jit.script(nn.BatchNorm1d(4).train())
    return nn.Sequential(nn.Linear(4, 4), part).train(), (X,)


def of_an_argument() -> Made:
    def fill(module: Any, x: Tensor, cache: Any, listed: Any) -> None:
        cache.seen[1] = x
        cache.last = x if cache.last is None else torch.cat([cache.last, x])
        listed.append(x)
        listed[0].add_(1)

    cache = Cache()
    cache.last = torch.zeros(1, 4)
    return Doing(fill), (X.clone(), cache, [torch.zeros(3)])


MODELS: dict[str, Callable[[], Made]] = {
    "tied layers": tied,
    "tied words": tied_words,
    "a shared norm": shared_norm,
    "views": lambda: (Views(), (X,)),
    "a helper": lambda: helper(Cache),
    "a helper that refuses copies": lambda: helper(Refusing),
    "a helper with a destructor": lambda: helper(Closing),
    "slots": slots,
    "containers": containers,
    "attributes": attributes,
    "a part made in forward": one_part_made_in_forward,
    "globals": in_globals,
    "closures": in_closures,
    "functions of an instance": instance_functions,
    "hooks": hooks,
    "settings": settings,
    "what cannot be copied": what_cannot_be_copied,
    "an adapter": adapter,
    "parametrizations": parametrized,
    "older norms": old_norms,
    "a recurrent net": recurrent,
    "gradients": with_gradients,
    "a scripted part": scripted,
    "caches as arguments": of_an_argument,
}
