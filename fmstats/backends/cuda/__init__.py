"""This package is the cuda backend, from torch's runtime down to the driver.

`backend` opens a `device`, `meter` measures a layer's tensors: it has kernels compiled by `nvrtc`
and loaded by `driver`, takes its `workspace`, and leaves launching to the native module. `runtime`
is what torch knows of GPUs and streams.
"""
