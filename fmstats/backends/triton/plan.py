"""A plan cuts a tensor into programs: arithmetic on sizes, without a GPU or Triton."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fmstats.errors import FmstatsError
from fmstats.statistic.fields import PART_FIELDS
from fmstats.statistic.view import View, joined_dims

MOST_DIMS = 4  # of positions, that a launch walks over
THREADS = 128  # of a program
CHUNK = 128  # elements of a lane in a stretch, whose counts share a number
VECTOR_BYTES = 16
SUMS_VECTOR = 4  # elements, of which a thread adds up powers in float64: more would not fit
TILE_BYTES = 64  # of a position that a program of columns reads: two sectors
MOST_UNROLL = 8  # at most kRoundings of csrc/parts.h: what a lane adds up in float32
FEW_TILES = 8  # of a stretch: below, a program costs more than it reads
PROGRAMS = 1024  # enough to fill a GPU
PART_WORDS = len(PART_FIELDS) + 1  # and the pivot that its sums are about
POWER_SUMS = 5  # of a stretch, in float64: of |x|, and of powers of its distance from the pivot
FAR = 1 << 31
GRAPH_ROWS, GRAPH_LANES = 16, 16  # planes and channels that a program of `graph_fold` adds at once
# Launches that no graph replays; that a graph does; and of these the last one of a tensor.
REPLAYS = NOT, REPLAYED, COUNTED = (0, 1, 2)


@dataclass(frozen=True)
class Layout:
    """A kernel is compiled for a layout, beside dtype, thresholds and target.

    Attributes:
        kernel: rows, columns or strided.
        number_dims: of the numbers of groups; 0 where every position counts.
        by_place: the elements of a slot have a number each; else one together.
    """

    kernel: str
    vector: int
    width: int
    dims: int
    narrow: bool
    number_dims: int = 0
    by_place: bool = False

    @property
    def grouped(self) -> bool:
        """Tell whether only positions count that are in a group."""
        return self.number_dims > 0

    @property
    def lanes(self) -> int:
        """Count the slots or positions of a tile: one vector for each thread."""
        return THREADS * self.vector // self.width

    def unroll(self, itemsize: int) -> int:
        """Count the tiles whose loads are in flight together: 64 bytes for each thread."""
        tiles = min(MOST_UNROLL, 4 * VECTOR_BYTES // (self.vector * itemsize))
        # Choices beside 16 elements of a byte take more registers than there are.
        return max(1, tiles // 2) if self.grouped and self.vector > 8 else tiles

    @property
    def again(self) -> int:
        """Count the slots of a tile that is read again, an element for each thread."""
        return max(1, THREADS // self.width)


@dataclass(frozen=True)
class Launch:
    """A `Launch` describes both launches of a tensor.

    Attributes:
        measure, fold: arguments behind the pointers, in the order of the kernels' own.
        measure_numbers, fold_numbers: arguments behind the address of the numbers of groups.
        programs, channels: grids of both.
        parts: rows of channels to make room for, and how long a row is.
    """

    layout: Layout
    measure: tuple[int, ...]
    fold: tuple[int, ...]
    programs: int
    channels: int
    parts: tuple[int, int]
    measure_numbers: tuple[int, ...] = ()
    fold_numbers: tuple[int, ...] = ()

    @property
    def powers(self) -> tuple[int, int]:
        """Return rows of channels for power sums, and how long a row is."""
        words = PART_WORDS + (1 if self.layout.grouped else 0)
        return self.parts[0] // words * POWER_SUMS, self.channels


def pieces_of(view: View) -> list[tuple[int, View]]:
    """Cut `view` into views of at most `MOST_DIMS` dims, and tell where each begins."""
    nothing = (0,) * len(view.dims)
    return [(begin, piece) for begin, piece, _, _ in grouped_pieces_of(view, nothing)]


def grouped_pieces_of(
    view: View, strides: tuple[int, ...]
) -> list[tuple[int, View, int, tuple[int, ...]]]:
    """Cut `view` so that each piece, and the numbers beside it, join to at most `MOST_DIMS` dims.

    Return where a piece begins and the piece, where its numbers begin and their strides.
    """
    if max(len(joined_dims(view.dims)), len(_number_dims(view, strides))) <= MOST_DIMS:
        return [(0, view, 0, strides)]
    size, stride = view.dims[0]
    return [
        (i * stride + begin, piece, i * strides[0] + number_begin, rest)
        for i in range(size)
        for begin, piece, number_begin, rest in grouped_pieces_of(
            replace(view, dims=view.dims[1:]), strides[1:]
        )
    ]


def plan(
    view: View, address: int, itemsize: int, row: int, groups: int = 0, sums: bool = False
) -> Launch:
    """Plan a tensor at an address, which is not empty and has at most `MOST_DIMS` dims.

    `row`: words from one field of the state to the next; `groups`: of its positions, which
    `plan_groups` tells of; 0: every position counts; `sums`: whether some are requested.

    Raises:
        FmstatsError: it is too large for a launch.
    """
    full = VECTOR_BYTES // itemsize
    full = min(full, SUMS_VECTOR) if sums else full
    columns = view.channel_stride == 1 and view.channels > 1 and len(view.dims) <= 2
    strides = [stride for size, stride in view.dims if size > 1]
    if columns:
        vector = _vector(full, itemsize, address, [view.channels, *strides])
        most = TILE_BYTES // itemsize
        width = min(most, max(vector, 1 << (view.channels - 1).bit_length()))
        dims = [(size, stride // vector) for size, stride in view.dims]
        pieces = -(-view.channels // width)
        channels, channel_stride = view.channels // vector, 1
    else:
        vector = 1
        size, stride = view.dims[-1]
        if stride == 1 and len(view.dims) <= 2:
            others = [view.channel_stride] if view.channels > 1 else []
            vector = _vector(full, itemsize, address, [size, *others, *strides[:-1]])
        dims = [(n, s // vector) for n, s in view.dims[:-1]]
        dims.append((size // vector, 1 if vector > 1 else stride))
        width, pieces = vector, view.channels
        channels, channel_stride = view.channels, view.channel_stride // vector
    slots = view.positions // (1 if columns else vector)
    narrow = slots < FAR
    name = "columns" if columns else "rows" if len(dims) <= 2 and dims[-1][1] == 1 else "strided"
    if len(dims) == 2 and dims[-1][0] >= FAR // 2:
        dims.insert(0, (1, 0))  # steps within a run are 32 bits wide
    layout = Layout(name, vector, width, len(dims), narrow)
    tiles = -(-slots // layout.lanes)
    wanted = min(-(-PROGRAMS // pieces), -(-tiles // FEW_TILES))
    per_stretch = min(CHUNK, -(-tiles // wanted)) * layout.lanes
    stretches = -(-slots // per_stretch)
    programs = pieces * stretches * max(groups, 1)
    if programs >= FAR:
        raise FmstatsError(
            f"a tensor of {view.channels} channels of {view.positions} elements takes more "
            f"programs ({programs}) than a launch can hold"
        )
    of_state = view.channels * max(groups, 1)
    measure = (
        *(row, of_state, channels, channel_stride, slots, per_stretch, pieces),
        *_padded(dims, innermost=False),
    )
    fold = (
        *(row, of_state, view.channel_stride, view.positions, stretches),
        *_padded(list(view.dims), innermost=True),
    )
    words = PART_WORDS + (1 if groups else 0)
    return Launch(layout, measure, fold, programs, of_state, (stretches * words, of_state))


def plan_groups(
    view: View,
    strides: tuple[int, ...],
    groups: int,
    address: int,
    itemsize: int,
    row: int,
    sums: bool = False,
) -> Launch:
    """Plan a tensor whose positions are in groups, by numbers of these strides.

    It is cut as if every position counted, once for each group: how the numbers lie in memory, or
    how many groups there are, does not show in the bits of a group.
    """
    whole = replace(view, dims=tuple((n, s) for n, s in joined_dims(view.dims)))
    launch = plan(whole, address, itemsize, row, groups, sums)
    numbers = _number_dims(view, strides)
    by_slot, by_place = list(numbers), False
    vector = 1 if launch.layout.kernel == "columns" else launch.layout.vector
    if vector > 1:  # positions of a slot
        size, stride = numbers[-1]
        by_place = stride != 0 or size % vector != 0
        if not by_place:
            by_slot[-1] = (size // vector, 0)
    layout = replace(
        launch.layout,
        narrow=view.positions < FAR,
        number_dims=len(numbers),
        by_place=by_place,
    )
    return replace(
        launch,
        layout=layout,
        measure_numbers=(groups, *_padded(by_slot, innermost=False)),
        fold_numbers=(groups, *_padded(numbers, innermost=True)),
    )


def likely_layouts(itemsize: int) -> list[Layout]:
    """List layouts of dense tensors, NCHW and channels_last, of sizes that fit a vector."""
    vector = VECTOR_BYTES // itemsize
    rows = [Layout("rows", vector, vector, dims, True) for dims in (1, 2)]
    return [*rows, Layout("columns", vector, TILE_BYTES // itemsize, 1, True)]


def _number_dims(view: View, strides: tuple[int, ...]) -> list[tuple[int, int]]:
    """Join the dims of the numbers beside a view."""
    dims = [(size, stride) for (size, _), stride in zip(view.dims, strides, strict=True)]
    return [(size, stride) for size, stride in joined_dims(dims)]


def _vector(full: int, itemsize: int, address: int, multiples: list[int]) -> int:
    """Return the most elements, up to a full vector of them, that divide all of these."""
    vector = full
    while vector > 1 and (
        address % (vector * itemsize) or any(distance % vector for distance in multiples)
    ):
        vector //= 2
    return vector


def _padded(dims: list[tuple[int, int]], innermost: bool) -> tuple[int, ...]:
    """Return sizes but the outermost, then strides, filled up to `MOST_DIMS` with dims of one."""
    none = [(1, 0)] * (MOST_DIMS - len(dims))
    dims = none + dims if innermost else dims + none
    return *(size for size, _ in dims[1:]), *(stride for _, stride in dims)
