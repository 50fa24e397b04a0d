"""What runs on the GPU, in Triton: two kernels, `measure` and `fold`.

They are made of `walk` (where elements lie), `lanes` (what is taken from them) and `formulas` (the
statistic). Functions here are compiled, not run, by Python: nothing but the language's own can be
used, and capitals are known at compile time. Nothing outside imports them but `compiler`.
"""
