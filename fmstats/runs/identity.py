"""Describe what a run is of: the model, the data, and the options.

An identity has two halves. `run` is what was asked for, in short texts and numbers: a checkpoint of
other options cannot be gone on with. `content` is what the numbers stand for: fingerprints of all
weights, of the code and settings of all modules, of the samples, and the versions of what computes.
What has no fingerprint is listed as `unknown`: whether it has changed cannot be known.
"""

from __future__ import annotations

import functools
import re
import types
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch.nn.modules import module as of_all_modules

from fmstats.models.wrappers import hash_structure, unwrap
from fmstats.output.tables import name_some
from fmstats.runs.code import fingerprint_code, fingerprint_forward, list_versions, own_classes
from fmstats.runs.fingerprints import Fingerprints, join, settings_of, tensors_of
from fmstats.runs.tensor_digests import digest_tensor
from fmstats.sources.data import DataSource
from fmstats.sources.stored import Skipped, Stored

Plain = str | int | float | bool | None

_MOST_PARTS = 1000  # of which each has a fingerprint of its own, to name those that differ
_NAMED = 3  # in a message
_THREADS = 8  # that read files
# Of a script's text: numbers that make names unique, comments on where it was written, addresses,
# and the mode, which a run sets.
_SCRIPT_NOISE = r"___torch_mangle_\d+\.| *#.*| at 0x[0-9a-f]+|training = \w+"
_KINDS = {
    "weights": "the values of {}",
    "code": "the code of {}",
    "settings": "attributes or hooks of {}",
    "samples": "the content of the data",
}


class Identity(TypedDict):
    """Describes what a run is of, ready for JSON."""

    run: dict[str, Plain]
    content: dict[str, Any]
    unknown: list[str]


def describe_model(model: torch.nn.Module) -> Identity:
    """Describe a model by class and structure, and fingerprint its weights, code and settings."""
    prints = Fingerprints(fingerprint_code)
    weights: dict[str, bytes] = {}
    settings: dict[str, bytes] = {"all modules": prints.of(_global_hooks(), "global hooks")}
    code: dict[str, bytes] = {}
    scripted: list[str] = []
    for name, module in _walk(model).items():
        dotted = f"{name}." if name else ""
        for key, tensor in tensors_of(module).items():
            weights[dotted + key] = prints.of(tensor, dotted + key)
        if isinstance(module, torch.jit.ScriptModule):
            if not any(name.startswith(f"{outer}.") or not outer for outer in scripted):
                scripted.append(name)
                code[f"the scripted module {name!r}"] = _fingerprint_script(module, prints)
            continue
        settings[repr(name)] = prints.of(settings_of(module), f"layer {name!r}: attribute ")
        kind = type(module)
        if own_classes(kind):
            code.setdefault(kind.__qualname__, b"")
            code[kind.__qualname__] += fingerprint_forward(kind, prints)
    parts = {"weights": weights, "code": code, "settings": settings}
    return {
        "run": {"model": type(model).__name__, "structure": hash_structure(model)},
        "content": {
            **{kind: _summarise(found) for kind, found in parts.items()},
            **list_versions(),
            **{package: prints.packages[package] for package in sorted(prints.packages)},
            "float32 matmul precision": torch.get_float32_matmul_precision(),
        },
        "unknown": prints.unknown,
    }


def describe_data(batches: Iterable[object]) -> dict[str, Plain]:
    """Describe the data without reading them."""
    if isinstance(batches, DataSource):
        known: dict[str, Plain] = {"data": batches.description}
        if batches.stored is not None:
            known |= {"batch_size": batches.stored.batch_size, **batches.stored.identity}
        return known
    try:
        length: int | None = len(batches)  # type: ignore[arg-type]
    except TypeError:
        length = None
    return {"data": type(batches).__name__, "batches of data": length}


def fingerprint_samples(stored: Stored, spans: Iterable[range]) -> dict[str, Any]:
    """Fingerprint the content of stored samples: their files, or their values."""
    found = []
    if stored.files is not None:
        paths = [stored.files[place] for span in spans for place in span]
        with ThreadPoolExecutor(_THREADS) as pool:
            found = list(pool.map(_digest_file, paths))
    else:
        for span, batch in stored.read(spans, Skipped()):
            found.append(b"" if batch is None else digest_tensor(batch))
            found.append(repr(span).encode())
    return {"digest": join(*found).hex(), "parts": {}}


def describe_options(options: Mapping[str, object]) -> dict[str, Plain]:
    """Describe options as text, unless they are numbers or None."""
    return {name: _plain(value) for name, value in options.items()}


def find_differences(there: Mapping[str, object], here: Mapping[str, object]) -> list[str]:
    """Describe each difference between the same half of two identities."""
    return [
        _describe_difference(key, there.get(key), here.get(key))
        for key in dict.fromkeys([*there, *here])
        if there.get(key) != here.get(key)
    ]


def _describe_difference(key: str, there: object, here: object) -> str:
    if key not in _KINDS or not (isinstance(there, dict) and isinstance(here, dict)):
        return f"{key}: {there!r} in the checkpoint, {here!r} now"
    parts = [found["parts"] for found in (there, here)]
    names = [n for n in dict.fromkeys([*parts[0], *parts[1]]) if parts[0].get(n) != parts[1].get(n)]
    several = "some of them" if key == "weights" else "some modules"
    return _KINDS[key].format(name_some(names, _NAMED) if names else several) + " differ"


def _walk(model: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """Return all modules by name, unwrapped, including those that are not layers."""
    found: dict[str, torch.nn.Module] = {}
    seen: set[int] = set()

    def visit(module: torch.nn.Module, name: str) -> None:
        module = unwrap(module)
        if id(module) not in seen:
            seen.add(id(module))
            found[name] = module
            for key, child in module.named_children():
                visit(child, f"{name}.{key}" if name else key)

    visit(model, "")
    return found


def _fingerprint_script(module: Any, prints: Fingerprints) -> bytes:
    """Fingerprint the code, attributes and constants of a scripted module and its parts."""
    text = module._c.dump_to_str(True, True, False)
    _, constants = module.code_with_constants
    found = prints.of(dict(constants.const_mapping), "a scripted module")
    return join(re.sub(_SCRIPT_NOISE, "", text), found)


def _global_hooks() -> list[object]:
    kinds = (of_all_modules._global_forward_pre_hooks, of_all_modules._global_forward_hooks)
    return [hook for kind in kinds for hook in kind.values()]


def _summarise(parts: Mapping[str, bytes]) -> dict[str, Any]:
    """Make one fingerprint of all parts, and a short one of each unless there are too many."""
    whole = join(*(item for name, part in parts.items() for item in (name, part))).hex()
    few = len(parts) <= _MOST_PARTS
    return {
        "digest": whole,
        "parts": {name: join(part).hex()[:8] for name, part in parts.items()} if few else {},
    }


def _digest_file(path: Path) -> bytes:
    digest = sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:  # It may be one that is left out.
        return type(error).__name__.encode()
    return digest.digest()


def _plain(value: object) -> Plain:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return _text(value)


def _text(value: object) -> str:
    if isinstance(value, re.Pattern):
        return f"re.compile({value.pattern!r}, {value.flags})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_text(k)}: {_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple | set | frozenset):
        texts = map(_text, value)
        return ", ".join(sorted(texts) if isinstance(value, set | frozenset) else texts)
    if isinstance(value, torch.device):
        return value.type
    if isinstance(value, types.FunctionType):
        return f"{value.__qualname__} ({_code_of(value)})"
    if isinstance(value, types.MethodType):  # of an object that a run may change
        return _text(value.__func__)
    if isinstance(value, functools.partial):
        prints = Fingerprints(fingerprint_code)
        given = prints.of((value.args, value.keywords), "partial").hex()[:16]
        return f"{_text(value.func)} with arguments ({given})"
    if callable(value):  # A module type or an object, whose repr may hold an address.
        kind = value if hasattr(value, "__qualname__") else type(value)
        name = f"{kind.__module__}.{kind.__qualname__}"
        return name if kind is value else f"{name} ({_code_of(kind)})"
    return str(value)


def _code_of(value: object) -> str:
    return fingerprint_code(value, Fingerprints(fingerprint_code)).hex()[:16]
