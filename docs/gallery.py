"""Make the pictures of docs/gallery.md by running its Python blocks, one after the other.

`python docs/gallery.py`, with the packages of fmstats[demo,viz] and the weights that
`fmstats demo` asks for.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from PIL import Image

PAGE = Path(__file__).parent / "gallery.md"
MOST_BYTES = 1_500_000  # of all pictures together


def main() -> None:
    """Run the page's code in its folder, compress the pictures, and weigh them."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, object] = {}
    os.chdir(PAGE.parent)
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    total = 0
    for path in sorted((PAGE.parent / "gallery").glob("*.png")):
        with Image.open(path) as picture:
            # Not to a palette: 256 colours would put steps into colour bars.
            plain = picture.convert("RGB")
        plain.save(path, optimize=True)
        total += path.stat().st_size
        print(f"{path.name}: {plain.width} x {plain.height}, {path.stat().st_size // 1000} kB")
    if total > MOST_BYTES:
        raise SystemExit(f"{total} bytes, more than {MOST_BYTES}: draw less, or with fewer dpi")


if __name__ == "__main__":
    main()
