"""Watch a copy of a model while it runs in evaluation mode, with hooks that copy outputs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fmstats.errors import FmstatsError, list_closest
from fmstats.models.channel_dims import channel_rules
from fmstats.models.copies import Look, look
from fmstats.models.copies.tensors import RealTensors
from fmstats.models.modes import in_mode, uncompiled
from fmstats.models.output_tensors import first_tensor, why_skipped
from fmstats.models.selection import ROOT
from fmstats.models.wrappers import named_modules, unwrap_replicated
from fmstats.operations.channel_finder import ChannelFinder
from fmstats.operations.watching import Watch, following
from fmstats.pictures.inputs import OneImage
from fmstats.pictures.maps import FeatureMaps, arrange, to_host
from fmstats.sources.batches import ModelInput, map_tensors
from fmstats.sources.entrypoints import describe_error
from fmstats.sources.placement import find_placement

Keep = Callable[[str, Tensor, int], None]


@dataclass
class Seen:
    """Notes what the hooks of `watch` have met.

    Attributes:
        calls: how often each layer gave a tensor that was kept.
        reasons: why a layer's output was not kept.
    """

    calls: dict[str, int] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def require(self, layer: str, kind: str) -> None:
        """Refuse a layer that gave nothing.

        Raises:
            FmstatsError: it did not run, or its output holds no map.
        """
        if self.calls.get(layer):
            return
        why = self.reasons.get(layer)
        raise FmstatsError(
            f"layer {layer!r} ({kind}) has no feature maps: "
            + (f"its output {why}" if why else "it did not run in the model's forward pass")
        )


def find_layer(model: nn.Module, name: str) -> tuple[str, nn.Module]:
    """Return the layer of that name, and its name; `""` and `"(model)"` are the model itself.

    Raises:
        FmstatsError: there is none.
    """
    if not isinstance(model, nn.Module):
        raise FmstatsError(f"model is of type {type(model).__name__}, not an nn.Module")
    listed = named_modules(model, remove_duplicate=False)
    modules = {known or ROOT: module for known, module in listed.items()}
    name = name or ROOT if isinstance(name, str) else name
    if name not in modules:
        raise FmstatsError(
            f"layer {name!r} is none of the {len(modules)} modules of {type(model).__name__}; "
            f"closest: {list_closest(str(name), modules)}"
        )
    return name, modules[name]


@contextlib.contextmanager
def watch(
    model: nn.Module, layers: Iterable[str], keep: Keep, channel_dim: int | str = "auto"
) -> Iterator[Seen]:
    """Call `keep(layer, output, channel dim)` for each output with floats; no hook is left after.

    `keep` has to copy what it wants: an in-place operation may follow.
    """
    if channel_dim != "auto" and not isinstance(channel_dim, int):
        raise FmstatsError(f"channel_dim={channel_dim!r}: choose 'auto' or a dim")
    rules = channel_rules(model)
    first_names = {id(module): name for name, module in named_modules(model).items()}
    seen = Seen()

    def hook_of(name: str, module: nn.Module, watch: Watch) -> Callable[..., None]:
        asked = channel_dim if isinstance(channel_dim, int) else rules[first_names[id(module)]]
        finder = ChannelFinder(asked)

        def hook(_module: nn.Module, _args: object, output: object) -> None:
            x = first_tensor(output)
            why = why_skipped(x, output) or (
                "is empty" if x is not None and not x.numel() else None
            )
            if x is None or why is not None:
                seen.reasons[name] = why or ""
                return
            flow = watch.flow
            with torch._C.DisableTorchFunction():  # what follows the pass would see it
                dim = finder.find(x.shape, None if flow is None else flow.origin_of(x))
                x = x.detach().resolve_neg()
                if dim is None:  # all is one channel
                    x, dim = x.unsqueeze(1), 1
                keep(name, x, dim)
            seen.calls[name] = seen.calls.get(name, 0) + 1

        return hook

    with contextlib.ExitStack() as stack:
        followed = stack.enter_context(following(model))
        for layer in layers:
            name, module = find_layer(model, layer)
            hook = hook_of(name, module, followed)
            stack.callback(module.register_forward_hook(hook).remove)
        yield seen


@contextlib.contextmanager
def look_at(model: nn.Module) -> Iterator[Look]:
    """Copy a model to run in its place; its parameters take no memory twice."""
    with look(unwrap_replicated(model), RealTensors()) as copies:
        yield copies


def run(look: Look, inputs: ModelInput, what: str, hint: str = "") -> None:
    """Run the copy of a model in evaluation mode on `inputs`, on its own device and dtype.

    Raises:
        FmstatsError: the model refuses them; `what` says what they are, `hint` what to try.
    """
    model = look.model
    # A copy: a first layer that works in place would write into the caller's tensor.
    placed = inputs.to(*find_placement(model, None, None), False)
    copies = ModelInput(
        tuple(map_tensors(torch.clone, value) for value in placed.args),
        {name: map_tensors(torch.clone, value) for name, value in placed.kwargs.items()},
    )
    try:
        # The mode as well is changed under watch: some models merge weights with it.
        with torch.no_grad(), uncompiled(), look.running(), in_mode(model, training=False):
            model(*copies.args, **copies.kwargs)
    except FmstatsError:
        raise
    except Exception as error:
        raise FmstatsError(
            f"the model refused {what}, {inputs.describe()}: {describe_error(error)}{hint}"
        ) from error


def capture(
    model: nn.Module, image: OneImage, layers: Iterable[str], channel_dim: int | str = "auto"
) -> dict[str, FeatureMaps]:
    """Return the maps of each of these layers for one image, from one pass in evaluation mode.

    A layer that runs several times gives those of its last run.

    Raises:
        FmstatsError: no such layer, one without maps, or the model refuses the image.
    """
    found: dict[str, FeatureMaps] = {}
    names = dict(find_layer(model, layer) for layer in layers)

    def keep(name: str, x: Tensor, dim: int) -> None:
        arranged = arrange(x, dim)
        found[name] = FeatureMaps(
            name, type(names[name]).__name__, to_host(arranged.maps), arranged.note
        )

    with look_at(model) as copies, watch(copies.model, names, keep, channel_dim) as seen:
        run_image(copies, image)
    for name, module in names.items():
        seen.require(name, type(module).__name__)
    return {name: _note_calls(found[name], seen.calls[name]) for name in names}


def run_image(look: Look, image: OneImage) -> None:
    """Run the copy of a model on one image in evaluation mode.

    Raises:
        FmstatsError: the model refuses the image.
    """
    three = any(isinstance(x, Tensor) and x.dim() == 4 for x in image.inputs.args)
    hint = (
        "; a picture is (1, C, H, W) or (C, H, W): give any other input as a tuple (x,), and "
        "another size or normalisation of image files by transform="
        if three
        else ""
    )
    run(look, image.inputs, "the image", hint)


def _note_calls(maps: FeatureMaps, calls: int) -> FeatureMaps:
    if calls == 1:
        return maps
    note = f"the last of {calls} calls" + (f"; {maps.note}" if maps.note else "")
    return FeatureMaps(maps.layer, maps.type, maps.values, note)
