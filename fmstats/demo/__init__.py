"""Demonstrate fmstats on an ImageNet-trained MobileNetV2 and real photographs.

Everything it reads comes from installed packages; nothing is downloaded.
"""

from __future__ import annotations

from fmstats.demo.run import run_demo

__all__ = ["run_demo"]
