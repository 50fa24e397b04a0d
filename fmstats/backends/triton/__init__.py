"""This package is the triton backend, from torch's side down to the kernels.

`backend` finds an `engine`, which launches what `compiler` compiles of the `kernels`; `meter`
measures a layer's tensors, each by a `plan`. Only `compiler` and `kernels` import Triton, and are
themselves imported when a GPU is first used.
"""
