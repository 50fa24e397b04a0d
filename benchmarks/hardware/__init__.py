"""Describe GPUs, and what ptxas makes of kernels for them."""
