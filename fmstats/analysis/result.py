"""Hold what `analyze` returns, and print and export it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from fmstats.analysis.records import UNKNOWN
from fmstats.analysis.rows import LayerRow, Part
from fmstats.analysis.stages import Stages
from fmstats.analysis.text import describe_totals, format_markdown, make_table
from fmstats.errors import list_closest, needs
from fmstats.output.tables import Block, join_blocks
from fmstats.profiles.profile import Profile

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Uncounted:
    """Names an operation without a formula.

    Attributes:
        kind: "cheap": a few operations an element (activations, norms, pooling, sums), which no
            tool counts; "unknown": of unknown cost, which the totals lack.
        layers: the modules that called them.
    """

    operation: str
    kind: str
    calls: int
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Analysis:
    """Holds the shapes, parameters, FLOPs and memory of a model, layer by layer.

    Attributes:
        model: its class name.
        rows: a `LayerRow` per layer, in the order of execution.
        totals: by name, bytes where the name says so:
            params, trainable_params, param_bytes: all parameters, shared ones once;
            buffer_bytes: of registered buffers;
            flops, macs: of one forward pass;
            activation_elements, activation_bytes: the sum of all rows;
            peak_activation_bytes: the most alive at once at inference, beside parameters and
                inputs: by lifetimes, views and in-place results counted once;
            saved_for_backward_bytes: what autograd keeps in training, inputs that a layer keeps
                included; None if the model does not run with gradients;
            traffic_bytes: the sum of all rows; input_bytes: of the inputs;
            batch: samples in the inputs, None if they have no dims.
        stages: resolution against channels.
        uncounted: operations without a formula.
        notes: what the reader should know.
        macs: whether tables show MACs for FLOPs.
        parts: every module of the model, by name, blocks as well.

    Examples:
        >>> import fmstats, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2))
        >>> analysis = fmstats.analyze(model, torch.zeros(1, 4))
        >>> [row.name for row in analysis.largest(1, by="params")]
        ['0']
        >>> analysis.totals["macs"]
        48
    """

    model: str
    rows: tuple[LayerRow, ...]
    totals: Mapping[str, Any]
    stages: Stages
    uncounted: tuple[Uncounted, ...]
    notes: tuple[str, ...]
    macs: bool
    parts: Mapping[str, Part]

    def __getitem__(self, layer: str) -> LayerRow:
        for row in self.rows:
            if row.name == layer:
                return row
        names = [row.name for row in self.rows]
        raise KeyError(f"no layer {layer!r}; closest: {list_closest(layer, names)}")

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def unknown(self) -> tuple[Uncounted, ...]:
        """Return the operations that may cost much and have no formula."""
        return tuple(entry for entry in self.uncounted if entry.kind == UNKNOWN)

    def largest(self, n: int = 5, by: str = "activation_bytes") -> list[LayerRow]:
        """Return the rows with the largest values of a field.

        Args:
            n: how many.
            by: any numeric field of a row.

        Returns:
            At most `n` rows, the largest first.
        """
        return sorted(self.rows, key=lambda row: -row[by])[:n]

    def outweigh_batch(self) -> int | None:
        """Return the smallest batch whose kept activations outweigh the parameters in training.

        None if what autograd keeps or the batch is not known, or there is nothing of either.
        """
        kept, batch = self.totals["saved_for_backward_bytes"], self.totals["batch"]
        if not kept or not batch or not self.totals["param_bytes"]:
            return None
        return int(self.totals["param_bytes"] * batch // kept) + 1

    def table(
        self,
        *,
        depth: int | None = None,
        columns: Sequence[str] | None = None,
        markdown: bool = False,
    ) -> str:
        """Return the rows as an aligned text, or as markdown.

        Args:
            depth: parts of a name to keep: deeper layers are added up in their block.
            columns: fields of `LayerRow`; default: those of `DEFAULT_COLUMNS`, and the side of
                the roofline if a GPU was named.
            markdown: pipes between the cells.

        Raises:
            FmstatsError: no such column, or a depth below 1.
        """
        table = make_table(self.rows, self.parts, depth=depth, columns=columns, macs=self.macs)
        return format_markdown(table) if markdown else str(table)

    def to_markdown(self, *, depth: int | None = None, columns: Sequence[str] | None = None) -> str:
        """Return the table in markdown.

        Args:
            depth: as in `table`.
            columns: as in `table`.

        Raises:
            FmstatsError: no such column, or a depth below 1.
        """
        return self.table(depth=depth, columns=columns, markdown=True)

    def to_dict(self, rows: Sequence[Mapping[str, Any]] | None = None) -> dict[str, Any]:
        """Return plain numbers, texts, lists and dicts, ready for JSON; `rows`: only these.

        The totals are of the whole model in either case.
        """
        shown = self.rows if rows is None else rows
        return {
            "model": self.model,
            "rows": [{name: _plain(value) for name, value in row.items()} for row in shown],
            "totals": dict(self.totals),
            "stages": [_plain(asdict(stage)) for stage in self.stages],
            "stage_breaks": [_plain(asdict(each)) for each in self.stages.breaks],
            "uncounted": [_plain(asdict(entry)) for entry in self.uncounted],
            "notes": list(self.notes),
        }

    def to_pandas(self) -> pd.DataFrame:
        """Return a DataFrame with a row per layer and a column per field of `LayerRow`.

        Raises:
            FmstatsError: pandas is not installed.
        """
        with needs("to_pandas()", "pandas", "'fmstats[pandas]'"):
            import pandas
        frame: pd.DataFrame = pandas.DataFrame([dict(row) for row in self.rows])
        return frame

    def join(self, profile: Profile) -> pd.DataFrame:
        """Return shapes, parameters and FLOPs beside live statistics, a row per layer of either.

        Layers that only one of both knows have missing values in the other's columns. A layer with
        several rows in the profile, of its widths or calls, is there with each of them: `row` is
        what the profile calls it.

        Args:
            profile: of the same model.

        Raises:
            FmstatsError: pandas is not installed.
        """
        with needs("join()", "pandas", "'fmstats[pandas]'"):
            import pandas
        live = pandas.DataFrame(profile.layers()).rename(columns={"layer": "row"})
        if live.empty:
            live = pandas.DataFrame({"row": [], "type": []})
        live.insert(0, "name", [row.layer for row in profile.info.values()])
        merged = self.to_pandas().merge(live, on=["name", "type"], how="outer", sort=False)
        joined: pd.DataFrame = merged
        order = {row.name: i for i, row in enumerate(self.rows)}
        place = joined["name"].map(lambda name: order.get(name, len(order)))
        return joined.iloc[place.argsort(kind="stable")].reset_index(drop=True)

    def __str__(self) -> str:
        return "\n\n".join([self.table(), self.summary()])

    def summary(self) -> str:
        """Return totals, takeaways, stages and what was not counted, without the table."""
        return join_blocks(self.summary_blocks())

    def summary_blocks(self) -> list[Block]:
        """Return what `summary` says, with the table of stages apart."""
        blocks: list[Block] = [describe_totals(self.totals, self.outweigh_batch(), self.largest(3))]
        if len(self.stages) > 1:
            blocks += ["", "Stages", *self.stages.blocks()]
        if self.unknown:
            listed = ", ".join(f"{u.operation} (in {u.layers[0]})" for u in self.unknown)
            blocks += ["", f"Not counted, since no formula is known: {listed}"]
        return blocks + [each for note in self.notes for each in ("", f"Note: {note}")]

    def __repr__(self) -> str:
        return f"Analysis({self.model}, {len(self.rows)} layers)\n{self}"


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
