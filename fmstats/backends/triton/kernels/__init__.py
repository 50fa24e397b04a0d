"""What runs on the GPU, in Triton: two kernels, `measure` and `fold`.

They are made of `walk` (where elements lie), `lanes` (what is taken from them), `requested` (what
is taken beside, where somebody asks for it) and `formulas` (the statistic). Functions here are
compiled, not run, by Python: nothing but the language's own can be used, and capitals are known at
compile time. Nothing outside imports them but `compiler`.

Triton 3.2 has no tuples, so arguments go from function to function by their names. Those of
`measure` are called the same everywhere:

    x: elements. A tile is LANES slots of one channel, or LANES positions of WIDTH channels.
    state, row: the words of statistic.State, and how far apart its rows are.
    parts, part_row: words, PART_WORDS rows for each stretch, and how far apart rows are.
    thresholds: float64 zero_tol, low, high, rounded for comparisons in the element's type.
    clock, replayed: the words of a clock, and whether its gate decides: see `before.closed`.
    channels: of columns, in units of VECTOR.
    channel_stride: in slots; of columns VECTOR channels are one slot.
    slots, per_stretch: of a channel, and of a stretch.
    pieces: channels, or tiles of channels: a program each for every stretch and group.
    n1 to n3, s0 to s3: sizes and strides of the slots' DIMS dims, outermost first.
    numbers, groups: the group of each position, see `chosen.take_chosen`, and how many there are.
        The state and the parts have the channels of each group, one after the other.
    g1 to g3, h0 to h3, BY_PLACE: how the numbers lie, see `walk.chosen`.
    powers: float64, POWERS rows for each stretch: power sums, where ABS or KURTOSIS is asked for.
    bins: the histograms of the state, where there are any: one of each SCOPE, of a RESOLUTION.
    MODE: which thresholds there are: "plain" none but zero, "upper" high, "all".
    UNROLL: tiles whose loads are in flight together, and that a lane adds up in float32.
    AGAIN: LANES of the tiles of a second reading.
    INDEX: the type in which slots are divided.
    NUMBER_DIMS: of the numbers; 0 where every position counts, and there are none.

Power sums are `sum_abs`, of |x|, and `d1` to `d4`, of the first to fourth powers of x - pivot.
"""
