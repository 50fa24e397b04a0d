"""Check one thing per module, for gpu_check.py."""
