"""Resolve `file.py:name` and `package.module:name`, the two ways of naming a Python object.

A file is executed once per content, whatever its time of change, so `net.py:model` and
`net.py:data` share one module. The folder of the file, or the current folder for a module, stays on
`sys.path`: the object may import its neighbours later. Whatever the user's code raises comes out as
one FmstatsError that keeps the original as its cause.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

from fmstats.errors import FmstatsError, list_closest

_FOREIGN_FOLDERS = (sysconfig.get_path("stdlib"), str(Path(__file__).parents[1]))

_FILE = re.compile(r"(?P<where>.+\.py):(?P<name>[^:/\\]*)")
_MODULE = re.compile(r"(?P<where>[^\W\d]\w*(\.[^\W\d]\w*)*):(?P<name>[^:/\\]*)")


def is_entrypoint(spec: str) -> bool:
    """Return whether `spec` has the form `file.py:name` or `package.module:name`."""
    return bool(_FILE.fullmatch(spec) or _MODULE.fullmatch(spec))


def resolve_entrypoint(spec: str) -> object:
    """Import what stands before the colon and return the (dotted) attribute after it.

    Raises:
        FmstatsError: the file or module is missing, its code raised, or it has no such attribute
            (the message lists the closest names).
    """
    match = _FILE.fullmatch(spec) or _MODULE.fullmatch(spec)
    if match is None:
        raise FmstatsError(f"{spec!r} is neither 'file.py:name' nor 'package.module:name'")
    where, name = match["where"], match["name"]
    if not name:
        raise FmstatsError(f"{spec!r} names no attribute: write {where}:NAME")
    module = _load_file(where, spec) if where.endswith(".py") else _load_module(where, spec)
    target: object = module
    for part in name.split("."):
        if not hasattr(target, part):
            names = (key for key in dir(target) if not key.startswith("_"))
            raise FmstatsError(
                f"{spec!r}: {where} has no attribute {name!r}; closest: {list_closest(name, names)}"
            )
        target = getattr(target, part)
    return target


def call_entrypoint(target: Callable[[], object], spec: str) -> object:
    """Call `target` without arguments and return what it gives.

    Raises:
        FmstatsError: it needs arguments, or it raised.
    """
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):
        pass  # Some builtins have no signature: the call itself will raise.
    else:
        needed = [
            parameter.name
            for parameter in signature.parameters.values()
            if parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ]
        if needed:
            raise FmstatsError(
                f"{spec!r} is called without arguments but needs {', '.join(needed)}: "
                "name a function that fills them in"
            )
    try:
        return target()
    except (Exception, SystemExit) as error:
        raise FmstatsError(f"{spec!r}: the call raised {describe_error(error)}") from error


def describe_error(error: BaseException) -> str:
    """Return the type and message of `error`, and the line of the user's code if there is one.

    E.g. `KeyError: 'a' (net.py, line 3)`. Lines of the standard library, of installed packages and
    of fmstats are not the user's.
    """
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    if isinstance(error, SyntaxError):  # It names its own place.
        return text
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(("<", *_FOREIGN_FOLDERS))
        and "site-packages" not in frame.filename
    ]
    return f"{text} ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else text


def _make_importable(folder: Path) -> None:
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _load_file(where: str, spec: str) -> ModuleType:
    path = Path(where).expanduser().resolve()
    if not path.is_file():
        raise FmstatsError(f"{spec!r}: there is no file {where!r} in {Path.cwd()}")
    try:
        source = path.read_bytes()
    except OSError as error:
        raise FmstatsError(f"{spec!r}: {where!r} cannot be read: {error}") from error
    version = hashlib.sha256(f"{path}:".encode() + source).hexdigest()[:12]
    # Never the bare stem: a file called torch.py must not stand in for the package.
    name = f"fmstats_file_{re.sub(r'[^0-9a-zA-Z_]', '_', path.stem)}_{version}"
    if name in sys.modules:
        return sys.modules[name]
    loader = SourceFileLoader(name, str(path))
    location = importlib.util.spec_from_file_location(name, path, loader=loader)
    assert location is not None
    _make_importable(path.parent)
    module = importlib.util.module_from_spec(location)
    sys.modules[name] = module  # Before execution: dataclasses and pickle look the module up.
    try:
        # Not exec_module(): bytecode that Python keeps of a file is that of any other of the same
        # size and second.
        exec(loader.source_to_code(source, str(path)), module.__dict__)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise FmstatsError(f"{spec!r}: running {where} raised {describe_error(error)}") from error
    return module


def _load_module(where: str, spec: str) -> ModuleType:
    _make_importable(Path.cwd())
    importlib.invalidate_caches()
    try:
        return importlib.import_module(where)
    except (Exception, SystemExit) as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and f"{where}.".startswith(f"{missing}."):
            raise FmstatsError(
                f"{spec!r}: no module {missing!r} is installed or in {Path.cwd()}"
            ) from error
        raise FmstatsError(f"{spec!r}: importing {where} raised {describe_error(error)}") from error
