"""The parts of gpu_check.py, one a module."""
