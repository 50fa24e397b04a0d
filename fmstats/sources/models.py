"""Load the model that a short text names.

Nothing is downloaded: models of torchvision, timm and transformers are built with random weights,
and trained weights come from `fmstats.sources.load_weights`.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch

from fmstats.errors import FmstatsError, list_closest, needs
from fmstats.sources.entrypoints import (
    call_entrypoint,
    describe_error,
    is_entrypoint,
    resolve_entrypoint,
)

MODEL_FORMS = (
    "'package.module:callable', 'file.py:callable', 'torchvision:NAME', 'timm:NAME', "
    "'transformers:NAME' or a '.pt2' file"
)


def load_model(spec: str) -> torch.nn.Module:
    """Return the model that `spec` names, on the CPU unless its own code says otherwise.

    Forms:
        `file.py:name`, `package.module:name`: an `nn.Module`, or a class or function that gives one
            when called without arguments. The current folder is importable.
        `torchvision:NAME`, `timm:NAME`: a registered model, random weights.
        `transformers:NAME`: the base model of a family (`resnet`, `bert`, ...) from its default
            configuration, random weights.
        `path.pt2`: a program saved by `torch.export.save`, unflattened so that its submodules can
            be observed. It keeps the mode, training or evaluation, that it was exported in.

    Raises:
        FmstatsError: no such form, file, module, attribute or name; a package that is not
            installed; or an error inside the user's code, which is the cause.
    """
    library, colon, name = spec.partition(":")
    if colon and library in _LIBRARIES:
        return _LIBRARIES[library](name, spec)
    if spec.endswith(".pt2"):
        return _load_exported(spec)
    if not is_entrypoint(spec):
        hint = f": write {spec}:NAME" if spec.endswith(".py") else ""
        raise FmstatsError(f"model {spec!r} is not understood{hint}; forms: {MODEL_FORMS}")
    target = resolve_entrypoint(spec)
    if isinstance(target, torch.nn.Module):
        return target
    if not callable(target):
        raise FmstatsError(
            f"{spec!r} is of type {type(target).__name__}, neither an nn.Module nor a callable "
            "giving one"
        )
    if inspect.isclass(target) and not issubclass(target, torch.nn.Module):
        raise FmstatsError(f"{spec!r} is a class that is not an nn.Module")
    model = call_entrypoint(cast("Callable[[], object]", target), spec)
    if not isinstance(model, torch.nn.Module):
        raise FmstatsError(f"{spec!r} gave a {type(model).__name__}, not an nn.Module")
    return model


def _load_exported(spec: str) -> torch.nn.Module:
    path = Path(spec).expanduser()
    if not path.is_file():
        raise FmstatsError(f"there is no exported program {spec!r}")
    try:
        with warnings.catch_warnings():
            # torch.export warns about its own internals, which the reader cannot change.
            warnings.simplefilter("ignore", FutureWarning)
            return torch.export.unflatten(torch.export.load(path))
    except Exception as error:
        raise FmstatsError(
            f"{spec!r} cannot be read as an exported program: {describe_error(error)}; "
            "torch.export.save(torch.export.export(model, inputs), path) writes one"
        ) from error


def _build_torchvision(name: str, spec: str) -> torch.nn.Module:
    with needs(repr(spec), "torchvision", "torchvision"):
        from torchvision import models
    return _build(name, spec, models.list_models(), lambda: models.get_model(name, weights=None))


def _build_timm(name: str, spec: str) -> torch.nn.Module:
    with needs(repr(spec), "timm", "timm"):
        import timm
    return _build(name, spec, timm.list_models(), lambda: timm.create_model(name, pretrained=False))


def _build_transformers(name: str, spec: str) -> torch.nn.Module:
    with needs(repr(spec), "transformers", "transformers"):
        from transformers import CONFIG_MAPPING, AutoConfig, AutoModel
    if "/" in name:
        raise FmstatsError(
            f"{spec!r} is a checkpoint of a hub, and nothing is downloaded: name a family, such as "
            "'transformers:resnet', or a 'file.py:callable' that loads the checkpoint"
        )
    auto: Any = AutoModel
    return _build(
        name,
        spec,
        list(CONFIG_MAPPING.keys()),
        lambda: auto.from_config(AutoConfig.for_model(name)),
    )


def _build(name: str, spec: str, known: list[str], build: Callable[[], object]) -> torch.nn.Module:
    if name not in known:
        library = spec.partition(":")[0]
        raise FmstatsError(
            f"{library} has no model named {name!r}; closest: {list_closest(name, known)}"
        )
    try:
        return cast(torch.nn.Module, build())
    except Exception as error:
        raise FmstatsError(f"building {spec!r} raised {describe_error(error)}") from error


_LIBRARIES: dict[str, Callable[[str, str], torch.nn.Module]] = {
    "torchvision": _build_torchvision,
    "timm": _build_timm,
    "transformers": _build_transformers,
}
