"""What GPUs are, and what ptxas makes of kernels for them."""
