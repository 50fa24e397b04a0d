"""Profile files, `.fmstats`, hold tensors and JSON in the safetensors format, no pickle.

The file has a tensor for each field of `fmstats.statistic.fields.FIELDS`, int64 for counts and
float64 for moments, all of one length: the channels of all layers, one layer after the other. A
count that is 0 in all channels is left out. The safetensors metadata has two keys: "sha256" is
the checksum of the whole file (see `checksum`), "fmstats" is a text of JSON:

    {"schema": 3, "layers": [{"name": ..., "channels": ..., ...}, ...], "metadata": {...}}

with the layers in the order of execution. NaN and infinities in the metadata are written as
Python's json does, `NaN` and `Infinity`. Files of schema 1 are read, too: they have no checksum, so
that damage is found only where it leaves what no data could have given.

What is measured on request is in files of schema 5, which have `"measures": {"measure": ["abs",
"histogram"], "histogram": "layer", "resolution": 4}` as well, a float64 tensor for each requested
field, and three tensors that tell the histograms (see `histograms`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from fmstats.errors import FmstatsError
from fmstats.output.files import write_whole
from fmstats.profiles.merging import check_missing, merge_stacks
from fmstats.profiles.profile import Profile
from fmstats.profiles.stacks import Stack
from fmstats.storage.reading import decode, read_stack
from fmstats.storage.writing import encode

__all__ = ["from_bytes", "load", "merge_files", "read_stack", "save", "to_bytes"]


def save(profile: Profile, path: str | Path) -> None:
    """Write a profile to a file, by custom one that ends in `.fmstats`.

    It takes at most 104 bytes a channel, 24 more of sums on request, and 3 to 10 bytes for each bin
    of a histogram that is not empty. `load` gives the same profile, bit for bit; tuples in the
    metadata come back as lists.

    Args:
        profile: what to write.
        path: where to; an old file is replaced in one step.

    Raises:
        FmstatsError: the metadata has something that JSON has not, or the disk refuses; an old
            file is untouched.
    """
    write_whole(Path(path), encode(Stack.of(profile), repr(str(path))))


def to_bytes(profile: Profile) -> bytes:
    """What `save` writes to a file, to be sent or kept within something else.

    Raises:
        FmstatsError: the metadata has something that JSON has not.
    """
    return encode(Stack.of(profile), "the profile")


def from_bytes(content: bytes) -> Profile:
    """The profile of `to_bytes`, or of a file's content, checked as `load` checks a file.

    Raises:
        FmstatsError: as `load`.
    """
    return decode(content).profile()


def load(path: str | Path) -> Profile:
    """Read a profile that `save` has written. No kernel and no device is needed.

    Files from elsewhere are safe to open: nothing in them is run, and everything is checked before
    a profile is made of it.

    Args:
        path: of a file that `save`, `Profile.save` or `fmstats profile` has written.

    Raises:
        FmstatsError: there is no such file, it is no profile, it is damaged, or a newer fmstats
            has written it. The message says which.

    Examples:
        >>> import torch
        >>> with fmstats.track(model := torch.nn.Sequential(torch.nn.ReLU())) as tracker:
        ...     out = model(torch.tensor([[-1.0, 2.0]]))
        >>> tracker.stats().save("monday.fmstats")
        >>> print(fmstats.load("monday.fmstats")["0"].max)
        [0. 2.]
    """
    return read_stack(path).profile()


def merge_files(paths: Iterable[str | Path], missing: str = "refuse") -> Profile:
    """Merge the profiles of several files into one, as `Profile.merge` does.

    One file after the other is read, so that memory is needed for two of them. A profile that has
    no `sources` in its metadata, which is one that was not merged before, gets its path.

    Args:
        paths: of profile files, at least one.
        missing: what to do if they do not have the same layers: "refuse", "keep" or "drop", as in
            `Profile.merge`.

    Raises:
        FmstatsError: there is no path, a file cannot be read, or does not fit those before it.

    Examples:
        >>> import torch
        >>> model = torch.nn.Sequential(torch.nn.ReLU())
        >>> for day in (1, 2):
        ...     with fmstats.track(model) as tracker:
        ...         out = model(torch.tensor([[-1.0, float(day)]]))
        ...     tracker.stats().save(f"{day}.fmstats")
        >>> print(fmstats.merge_files(["1.fmstats", "2.fmstats"])["0"].max)
        [0. 2.]
    """
    check_missing(missing)
    merged = None
    for path in paths:
        stack = read_stack(path)
        stack = replace(stack, metadata={"sources": [str(path)], **stack.metadata})
        try:
            merged = stack if merged is None else merge_stacks(merged, stack, missing)
        except FmstatsError as error:
            raise FmstatsError(
                f"{str(path)!r} does not fit the files before it: {error}"
            ) from error
    if merged is None:
        raise FmstatsError("merge_files() was given no file")
    return merged.profile()
