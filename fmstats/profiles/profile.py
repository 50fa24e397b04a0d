"""A profile tells what data did to a model: statistics of each layer, on the host, mergeable.

Reading, merging and printing a profile needs no kernel and no device.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from fmstats.errors import FmstatsError, list_closest, needs
from fmstats.output.tables import Table
from fmstats.profiles.columns import choose_columns
from fmstats.profiles.frames import list_columns, list_rows
from fmstats.profiles.gaps import list_gaps
from fmstats.profiles.groups import note_group
from fmstats.profiles.layer_profile import LayerProfile, summarise, with_keys
from fmstats.profiles.measured import name_measured
from fmstats.profiles.uses import Uses
from fmstats.statistic.channel_stats import ChannelStats, pool_channels

__all__ = ["LayerProfile", "Profile", "check_profile"]

NOTHING_MEASURED = "no layer was measured: see coverage()"

if TYPE_CHECKING:
    import pandas as pd


class Profile(Uses):
    """A profile maps the names of rows to their statistics, in the order of execution.

    A row is called as its layer, but see `fmstats.profiles.row_names` for layers that show several
    widths, and for `per_call`. A row with a name of another kind is one of a layer of that name.

    Attributes:
        info: what is known of each row beside its statistics.
        metadata: what was run, and how.

    Examples:
        >>> import torch
        >>> with fmstats.track(model := torch.nn.Sequential(torch.nn.ReLU())) as tracker:
        ...     out = model(torch.tensor([[-1.0, 2.0]]))
        >>> profile = tracker.stats()
        >>> print(list(profile), profile["0"].max)
        ['0'] [0. 2.]
    """

    def __init__(
        self,
        info: Mapping[str, LayerProfile],
        metadata: Mapping[str, Any],
        groups: Mapping[str, Mapping[str, LayerProfile]] | None = None,
    ) -> None:
        self.metadata = dict(metadata)
        self.info = with_keys(info, self.metadata.get("per_call") is True)
        self._rows_of_groups = {name: dict(rows) for name, rows in (groups or {}).items()}

    @property
    def groups(self) -> dict[str, Profile]:
        """Return the profile of each group by its name; this one is of all of them together."""
        return {
            name: Profile(rows, note_group(self.metadata, name, rows, self.info))
            for name, rows in self._rows_of_groups.items()
        }

    def with_metadata(self, metadata: Mapping[str, Any]) -> Profile:
        """Return a profile of the same rows and groups, with a copy of this `metadata`."""
        return Profile(self.info, metadata, self._rows_of_groups)

    def __getitem__(self, layer: str) -> ChannelStats:
        if layer not in self.info:
            raise KeyError(f"no layer {layer!r}; closest: {list_closest(str(layer), self.info)}")
        return self.info[layer].stats

    def __iter__(self) -> Iterator[str]:
        return iter(self.info)

    def __len__(self) -> int:
        return len(self.info)

    def merge(self, *others: Profile, missing: str = "refuse") -> Profile:
        """Return the profile of all data sets together: of shards, ranks, machines or days.

        In whatever order and grouping profiles are merged, counts come out the same and moments up
        to rounding in float64. Rows go together that are of the same layer, call and width,
        whatever they are called (see `fmstats.profiles.row_names`), and keep the order of the
        first profile that has them. Profiles of one model may have other widths of a layer. `calls`
        are added; of `shape` the largest, of `dtype` and `backend` all are kept. What becomes of
        the metadata: `fmstats.profiles.metadata.merge_metadata`.

        Args:
            *others: of the same model under the same options.
            missing: what to do if they do not have the same layers. "refuse": merge nothing.
                "keep": all layers, those of one profile as they are there; a layer that is in two
                must fit. "drop": only layers that are in all profiles and fit, also of another
                version of the model; what a layer is called is then all that tells which is which.

        Raises:
            FmstatsError: other models (`structure` in the metadata), layers, channels or
                thresholds, unless `missing` allows for it; in any case, another `of`, `when` or
                `per_call`, or no layer in common.
        """
        from fmstats.profiles.merging import merge_profiles

        return merge_profiles((self, *others), missing)

    def __or__(self, other: object) -> Profile:
        return self.merge(other) if isinstance(other, Profile) else NotImplemented

    def layers(self) -> list[dict[str, Any]]:
        """Return a row per layer, all channels taken together.

        `mean`, `std`, `min`, `max` are of all finite elements, `mean_spread` is the standard
        deviation of the channels' means, `sparsity` and `saturated` are shares of all elements
        (`saturated` is None for a layer without bounds), `dead` and `never_active` are numbers of
        channels, `nan` and `inf` numbers of elements.

        What was measured on request follows: `mean_abs`, `skewness`, `kurtosis`, and of histograms
        the quantiles `p1`, `p50`, `p99`. It is None for a layer of which it was not measured.
        """
        wholes = pool_channels([layer.stats for layer in self.info.values()])
        measured = self._measured
        return [
            summarise(name, layer, whole, measured)
            for (name, layer), whole in zip(self.info.items(), wholes, strict=True)
        ]

    @property
    def _measured(self) -> tuple[str, ...]:
        """Return the columns of `layers()` that are there on request."""
        return name_measured(layer.stats.measures for layer in self.info.values())

    def expert_shares(self) -> dict[str, dict[int, float]]:
        """Return the share of tokens that came to each expert, by what holds `experts.0` and on.

        A token that goes to two experts counts for both.
        """
        from fmstats.profiles.experts import share_tokens

        return share_tokens(self.info)

    def pooled(self, depth: int) -> Profile:
        """Return the profile of blocks: layers below `depth` parts of a name taken together.

        See `fmstats.profiles.pooling.pool_layers`.

        Raises:
            FmstatsError: a depth below 1.
        """
        from fmstats.profiles.pooling import pool_layers

        return pool_layers(self, depth)

    def narrowed(self, measure: str | Iterable[str] = ()) -> Profile:
        """Return a copy that holds no more than some of the measures that were asked for.

        So it merges with profiles that hold those alone.

        Args:
            measure: some of those that `track(measure=...)` takes; none: what is always measured.

        Raises:
            FmstatsError: there is no such measure, or a row does not have it.

        Examples:
            >>> import torch
            >>> measure = ("abs", "histogram")
            >>> model = torch.nn.Sequential(torch.nn.ReLU())
            >>> with fmstats.track(model, measure=measure, backend="torch") as tracker:
            ...     out = model(torch.tensor([[-1.0, 2.0]]))
            >>> print(tracker.stats().narrowed("abs")["0"].measures)
            abs
        """
        from fmstats.profiles.narrowing import narrow

        return narrow(self, measure)

    def scalars(
        self, stats: str | Iterable[str] | None = None, prefix: str = ""
    ) -> dict[str, float]:
        """Return a flat dict of the numbers of `layers()`, for W&B, MLflow and the like.

        A key is `{prefix}{layer}.{stat}`: `fmstats/layer1.0.conv1.mean`. Layers are called as in
        the profile, dots and the `#` of `per_call` included; `stat` is what follows the last dot.
        What is not known is left out: `saturated` of a layer without bounds, NaN, infinities.

        Args:
            stats: columns of `layers()` but `layer` and `type`; None: mean, std, sparsity, dead,
                saturated, nan, inf, and what was measured on request.
            prefix: what all keys begin with.

        Raises:
            FmstatsError: there is no such statistic, or it was not measured.
        """
        from fmstats.profiles.scalars import DEFAULT, flatten

        return flatten(self, (*DEFAULT, *self._measured) if stats is None else stats, prefix)

    def rank(
        self,
        by: str = "sparsity",
        top: int | None = None,
        *,
        share: float | None = None,
        layers: str | Iterable[str] | None = None,
        types: str | Iterable[str] | None = None,
        ascending: bool = False,
    ) -> list[dict[str, Any]]:
        """Return the channels of all layers in the order of one number, largest first.

        A row is a dict: rank, layer, type, channel, that number, mean, std, sparsity and max. Equal
        channels keep the order of execution, and those without the number come last.

        Args:
            by: a column of `to_pandas()`, such as sparsity, std, abs_max, or p99 where measured.
            top: so many rows; None: all.
            share: as many rows as are this share of all channels chosen, rounded up.
            layers: names or globs of layers; None: all.
            types: names or globs of types of layers; None: all.
            ascending: smallest first.

        Raises:
            FmstatsError: no such number, layer or type; `top` and `share`, or one out of range.

        Examples:
            >>> import torch
            >>> model = torch.nn.Sequential(torch.nn.ReLU())
            >>> x = torch.tensor([[1.0, -1.0, 2.0], [1.0, -1.0, -2.0]])
            >>> profile = fmstats.profile(model, x, progress=False)
            >>> [(row["channel"], row["sparsity"]) for row in profile.rank("sparsity", top=2)]
            [(1, 1.0), (2, 0.5)]
        """
        from fmstats.profiles.ranking import rank_channels

        return rank_channels(
            self.info, by, top=top, share=share, layers=layers, types=types, ascending=ascending
        )

    def update_ratios(self, by: str = "parameter") -> dict[str, Any]:
        """Return the size of updates relative to weights: rms(update) / rms(weight).

        It is of a profile by `fmstats.track_parameters`, over the steps that were measured.

        Args:
            by: "parameter": a number of each; "channel": an array over its output channels.

        Raises:
            FmstatsError: `by` is something else, or no updates were measured.
        """
        from fmstats.profiles.updates import update_ratios

        ratios = update_ratios(self.info, by)
        return ratios if by == "channel" else {name: float(r[0]) for name, r in ratios.items()}

    def to_pandas(self) -> pd.DataFrame:
        """Return a row per channel: layer, type, channel, then every field and derived number.

        Quantiles are those of histograms of channels; `layers()` has those of layers.

        With groups there is also `group`, None in the rows of all positions together.

        Raises:
            FmstatsError: pandas is not installed.
        """
        with needs("to_pandas()", "pandas", "'fmstats[pandas]'"):
            from pandas import DataFrame
        frame: pd.DataFrame = DataFrame(list_columns(self.info, self._rows_of_groups))
        return frame

    def to_dict(self) -> dict[str, Any]:
        """Return lists, numbers and strings: `{"metadata": ..., "layers": {name: ...}}`.

        With groups there is also `"groups": {group: {name: ...}}`. Of histograms there are the
        quantiles and the bins that are not empty.
        """
        known = {"metadata": dict(self.metadata), "layers": list_rows(self.info)}
        groups = {name: list_rows(rows) for name, rows in self._rows_of_groups.items()}
        return {**known, "groups": groups} if groups else known

    def __str__(self) -> str:
        columns = choose_columns(self._measured)
        table = str(Table(columns, self.layers())) if self else NOTHING_MEASURED
        return "\n".join([table, *list_gaps(self.info, self.metadata)])

    def __repr__(self) -> str:
        return f"Profile({len(self)} layers)\n{self}"


def check_profile(given: object, asked: str) -> None:
    """Refuse what is no profile where `asked`, such as "merge()", takes one.

    Raises:
        FmstatsError: it is of another type.
    """
    if not isinstance(given, Profile):
        raise FmstatsError(f"{asked} takes a Profile, got {type(given).__name__}")
