"""Load trained weights into a model, all of them or none.

Only tensors are read (`weights_only=True` or safetensors), never arbitrary pickles. Names and
shapes are compared first, so a file that does not fit leaves the model as it was.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path

import torch

from fmstats.errors import FmstatsError
from fmstats.output.tables import name_some
from fmstats.sources.entrypoints import describe_error

# What training wrappers put before every name: DataParallel and DDP, torch.compile.
_WRAPPER_PREFIXES = ("module.", "_orig_mod.")
# Under which training scripts keep the state dict beside their optimizer and epoch.
_NESTED_KEYS = ("state_dict", "model", "model_state_dict")
_NAMED = 5  # in a message


def load_weights(model: torch.nn.Module, path: str | Path) -> None:
    """Copy the tensors of a `.pth`, `.pt` or `.safetensors` file into `model`, strictly.

    A checkpoint that holds the state dict under `state_dict`, `model` or `model_state_dict` is
    opened, and the prefixes `module.` and `_orig_mod.` of training wrappers are dropped. A name
    that is missing is forgiven where it shares its tensor with a name that is present (tied
    weights) or is `num_batches_tracked`, as PyTorch does.

    Raises:
        FmstatsError: no such file, another suffix, more than tensors in it, or names or shapes that
            differ (the message lists a few).
    """
    file = Path(path).expanduser()
    if file.suffix not in (".pth", ".pt", ".safetensors"):
        raise FmstatsError(f"weights {str(path)!r}: a file ends in .pth, .pt or .safetensors")
    if not file.is_file():
        raise FmstatsError(f"there is no weights file {str(path)!r}")
    read = _read_safetensors if file.suffix == ".safetensors" else _read_torch
    found = _drop_wrappers(read(file), model)
    _compare(model, found, file)
    # The names were compared above; not strict, so that tied tensors may be stored once.
    model.load_state_dict(found, strict=False)


def _read_safetensors(file: Path) -> dict[str, object]:
    from safetensors.torch import load_file

    try:
        return dict(load_file(file))
    except Exception as error:
        raise FmstatsError(
            f"weights {str(file)!r} cannot be read: {describe_error(error)}"
        ) from error


def _read_torch(file: Path) -> dict[str, object]:
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise FmstatsError(
            f"weights {str(file)!r} hold more than tensors, or are not a torch file: "
            "save them with torch.save(model.state_dict(), path)"
        ) from error
    except Exception as error:
        raise FmstatsError(
            f"weights {str(file)!r} cannot be read: {describe_error(error)}"
        ) from error
    for key in _NESTED_KEYS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping):
        raise FmstatsError(
            f"weights {str(file)!r} hold a {type(content).__name__}, not a state dict: "
            "save them with torch.save(model.state_dict(), path)"
        )
    return dict(content)


def _drop_wrappers(found: dict[str, object], model: torch.nn.Module) -> dict[str, object]:
    wanted = model.state_dict()
    for prefix in _WRAPPER_PREFIXES * 2:  # Twice: the wrappers nest in either order.
        wrapped = found and all(name.startswith(prefix) for name in found)
        if wrapped and not any(name.startswith(prefix) for name in wanted):
            found = {name[len(prefix) :]: value for name, value in found.items()}
    return found


def _compare(model: torch.nn.Module, found: dict[str, object], file: Path) -> None:
    wanted = model.state_dict()
    present = {
        _identify(value) for name, value in wanted.items() if name in found and _has_shape(value)
    }
    missing = [
        name
        for name, value in wanted.items()
        if name not in found
        and not name.endswith("num_batches_tracked")
        and not (_has_shape(value) and _identify(value) in present)
    ]
    unexpected = [name for name in found if name not in wanted]
    differing = [
        f"{name} {tuple(value.shape)} for {tuple(wanted[name].shape)}"
        for name, value in found.items()
        if isinstance(value, torch.Tensor)
        and name in wanted
        and _has_shape(wanted[name])
        and value.shape != wanted[name].shape
    ]
    groups = {"missing": missing, "unexpected": unexpected, "of another shape": differing}
    problems = [f"{name_some(names, _NAMED)} {what}" for what, names in groups.items() if names]
    if problems:
        raise FmstatsError(f"weights {str(file)!r} do not fit the model: {'; '.join(problems)}")


def _has_shape(value: object) -> bool:
    """Return False for extra state, and for parameters of lazy modules before a run."""
    return isinstance(value, torch.Tensor) and not torch.nn.parameter.is_lazy(value)


def _identify(value: torch.Tensor) -> tuple[object, ...]:
    """Return a key that is equal for two names of one tensor."""
    return value.untyped_storage()._cdata, value.storage_offset(), value.shape
