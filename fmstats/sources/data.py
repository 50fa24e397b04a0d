"""Open the data that a short text names, as batches that can be run through more than once.

Opening checks all that can be checked without reading samples: paths, keys, shapes, attributes.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch

from fmstats.errors import FmstatsError
from fmstats.output.tables import format_plural
from fmstats.sources.arrays import is_array_spec, open_array
from fmstats.sources.batches import Stack, read_batches
from fmstats.sources.conversion import to_tensor
from fmstats.sources.decoding import is_image
from fmstats.sources.entrypoints import call_entrypoint, is_entrypoint, resolve_entrypoint
from fmstats.sources.folders import find_images
from fmstats.sources.images import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    ImageTransform,
    read_images,
    require_pillow,
    usual_resize,
)
from fmstats.sources.stored import Skipped, Stored

DATA_FORMS = (
    "a folder of images, an image, a .npy, .npz or .safetensors file (with ':KEY' where it holds "
    "several arrays), 'file.py:callable' or 'package.module:callable'"
)


@dataclass
class DataSource:
    """Gives batches from a named place; each `iter()` starts again from the first.

    Attributes:
        description: what it is, for people, e.g. `50000 images in 'val', 224 px, ImageNet mean and
            std`.
        samples: how many samples one pass gives at most, or None where only a pass can show.
        batches: begins a pass.
        skipped: the unreadable files of the latest pass begun by `iter()`, where they are not
            errors.
        stored: the samples, where any can be read without those before it.
        inputs: how files become samples, ready for JSON: `image_size`, `resize`, `mean` and `std`
            of images; None for other data, whose numbers are taken as they are.

    Examples:
        >>> import numpy as np
        >>> from fmstats.sources import open_data
        >>> np.save("x.npy", np.zeros((5, 3), np.float32))
        >>> source = open_data("x.npy")
        >>> source.samples, source.description
        (5, "5 samples of shape (3,) in 'x.npy'")
    """

    description: str
    samples: int | None
    batches: Callable[[], Iterable[object]] = field(repr=False)
    skipped: Skipped = field(default_factory=Skipped)
    stored: Stored | None = field(default=None, repr=False)
    inputs: Mapping[str, object] | None = None

    def __iter__(self) -> Iterator[object]:
        """Start a pass."""
        return iter(self.begin())

    def begin(self) -> Iterable[object]:
        """Start a pass, and return the iterable that gives its batches."""
        self.skipped.clear()
        return self.batches()


def open_data(
    spec: str | Path,
    *,
    batch_size: int = 32,
    image_size: int = 224,
    resize: int | None = None,
    mean: tuple[float, ...] = IMAGENET_MEAN,
    std: tuple[float, ...] = IMAGENET_STD,
    limit: int | None = None,
    on_bad_sample: Literal["raise", "skip"] = "raise",
) -> DataSource:
    """Return the batches that `spec` names.

    Forms:
        A folder: its images, of all kinds that Pillow reads, recursive and sorted, or one image
            file. See `fmstats.sources.decoding` and `fmstats.sources.images` for the transform.
        `file.npy`, `file.npz`, `file.safetensors`: the first dimension runs along the samples. A
            file of several arrays needs a key: `file.npz:KEY`.
        `file.py:name`, `package.module:name`: an iterable of batches, such as a DataLoader, or a
            callable that gives one, called anew for every pass. A tensor or array counts as stored
            samples. See `fmstats.sources.batches` for the forms of a batch.

    Args:
        spec: one of the forms above.
        batch_size: samples per batch; an iterable of batches keeps its own.
        image_size: side of the square crop, pixels; images only, like the next three.
        resize: the shorter side before the crop, pixels; None: 8/7 of image_size (256 for 224).
        mean: of red, green and blue, subtracted from pixels in 0..1; by default ImageNet's.
            `(0, 0, 0)`, with an `std` of `(1, 1, 1)`, leaves pixels in 0..1.
        std: of each channel, by which the difference is divided; by default ImageNet's.
        limit: stop after this many samples, unreadable images among them; None: all.
        on_bad_sample: an unreadable image is an error ("raise") or is left out and noted in
            `DataSource.skipped` ("skip").

    Raises:
        FmstatsError: no such form, path, key or attribute; no sample; a missing package.

    Examples:
        >>> import numpy as np
        >>> from fmstats.sources import open_data
        >>> np.save("x.npy", np.zeros((5, 3), np.float32))
        >>> [tuple(batch.shape) for batch in open_data("x.npy", batch_size=2)]
        [(2, 3), (2, 3), (1, 3)]
    """
    spec = str(spec)
    if batch_size < 1 or (limit is not None and limit < 1):
        raise FmstatsError(f"batch_size {batch_size} and limit {limit} must be at least 1")
    if on_bad_sample not in ("raise", "skip"):
        raise FmstatsError(f"on_bad_sample {on_bad_sample!r} is neither 'raise' nor 'skip'")
    path = Path(spec).expanduser()
    if path.is_dir() or (path.is_file() and is_image(path)):
        size = usual_resize(image_size) if resize is None else resize
        transform = ImageTransform(
            image_size, size, tuple(map(float, mean)), tuple(map(float, std))
        )
        return _open_images(path, spec, transform, batch_size, limit, on_bad_sample)
    if is_array_spec(spec):
        array = open_array(spec)
        samples = array.shape[0] if limit is None else min(limit, array.shape[0])
        description = f"{samples} samples of shape {array.shape[1:]} in {spec!r}"
        return _open_stored(description, Stored(samples, batch_size, array.read_spans, {}))
    if is_entrypoint(spec):
        return _open_entrypoint(spec, batch_size, limit)
    if not path.exists():
        raise FmstatsError(f"data {spec!r} does not exist; forms: {DATA_FORMS}")
    raise FmstatsError(f"data {spec!r} is not understood; forms: {DATA_FORMS}")


def require_batches(data: object, name: str) -> Iterable[object]:
    """Return `data` if iterating over it gives batches.

    Raises:
        FmstatsError: it is not iterable, or is a map-style Dataset, which gives samples one by one.
    """
    if isinstance(data, torch.utils.data.Dataset) and not isinstance(
        data, torch.utils.data.IterableDataset
    ):
        raise FmstatsError(
            f"{name} is a Dataset, which gives single samples: wrap it in "
            "torch.utils.data.DataLoader(dataset, batch_size=32)"
        )
    if isinstance(data, dict):
        raise FmstatsError(f"{name} is one dict, not an iterable of batches: write [batch]")
    # Not by iter(data): a DataLoader would start its workers.
    if not hasattr(type(data), "__iter__") and not hasattr(type(data), "__getitem__"):
        raise FmstatsError(f"{name} is of type {type(data).__name__}, not an iterable of batches")
    return cast("Iterable[object]", data)


def _open_images(
    path: Path,
    spec: str,
    transform: ImageTransform,
    batch_size: int,
    limit: int | None,
    on_bad_sample: Literal["raise", "skip"],
) -> DataSource:
    require_pillow(spec)
    paths = find_images(path) if path.is_dir() else [path]
    samples = len(paths) if limit is None else min(limit, len(paths))

    def read(
        spans: Iterable[range], skipped: Skipped
    ) -> Iterator[tuple[range, torch.Tensor | None]]:
        return read_images(
            paths, transform.read_first, spans, on_bad_sample=on_bad_sample, skipped=skipped
        )

    names = "\n".join(map(str, paths[:samples])).encode("utf-8", "surrogateescape")
    identity = {"transform": str(transform), "file names": hashlib.sha256(names).hexdigest()[:16]}
    what = f"{format_plural(samples, 'image')} in {spec!r}" if path.is_dir() else f"image {spec!r}"
    stored = Stored(samples, batch_size, read, identity, files=paths)
    return _open_stored(f"{what}, {transform.describe()}", stored, transform.to_dict())


def _open_stored(
    description: str, stored: Stored, inputs: Mapping[str, object] | None = None
) -> DataSource:
    def start() -> Iterable[object]:
        read = stored.read(stored.spans(), source.skipped)
        return (batch for _, batch in read if batch is not None)

    source = DataSource(description, stored.samples, start, stored=stored, inputs=inputs)
    return source


def _open_entrypoint(spec: str, batch_size: int, limit: int | None) -> DataSource:
    target = resolve_entrypoint(spec)
    is_iterable = hasattr(type(target), "__iter__") and not inspect.isclass(target)
    if is_iterable or not callable(target):
        require_batches(target, f"{spec!r}")

    def start() -> Iterable[object]:
        is_iterable = hasattr(type(target), "__iter__") and not inspect.isclass(target)
        made = (
            target if is_iterable else call_entrypoint(cast("Callable[[], object]", target), spec)
        )
        if isinstance(made, torch.Tensor | np.ndarray):
            stored = to_tensor(made)
            if not stored.dim():
                raise FmstatsError(f"{spec!r} gave a single number, which has no samples")
            batches: Iterable[object] = Stack(stored, batch_size)
        else:
            batches = require_batches(made, f"{spec!r}")
        return batches if limit is None else read_batches(batches, limit)

    return DataSource(f"batches of {spec!r}", limit, start)
