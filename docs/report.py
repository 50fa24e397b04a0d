"""Make the pictures of docs/report.md: a report on MobileNetV2 whose colours were swapped.

`python docs/report.py`, with the packages of fmstats[demo,report], playwright, Chromium, and the
weights that `fmstats demo` asks for.

A half of the photographs' crops, BGR for RGB, against the other half, in 18 shards, as they are.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from drift import NOTHING, read_images
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright
from torch import Tensor, nn

import fmstats
from fmstats.demo.mobilenet import load_pretrained
from fmstats.report import write_report

FOLDER = Path(__file__).parent / "report"
SWAPPED = "RGB and BGR swapped"
SHARDS = 18
MOST_BYTES = 400_000  # of a picture
DESK = {"viewport": {"width": 1280, "height": 1000}}
PHONE = {"viewport": {"width": 390, "height": 844}}


def profile_some(
    network: nn.Module, images: Sequence[Tensor], chosen: np.ndarray
) -> fmstats.Profile:
    """The profile of the chosen images."""
    batches = [torch.stack([images[i] for i in part]) for part in np.array_split(chosen, 9)]
    return fmstats.profile(network, batches, progress=False)


def make_report(path: Path) -> None:
    """Write the report that the pictures show."""
    network = load_pretrained().eval()
    clean, swapped = read_images(NOTHING), read_images(SWAPPED)
    questioned, trusted = np.split(np.random.default_rng(0).permutation(len(clean)), 2)
    now = profile_some(network, swapped, questioned)
    shards = [profile_some(network, clean, part) for part in np.array_split(trusted, SHARDS)]
    found = now.compare(shards[0].merge(*shards[1:]), calibration=shards)
    write_report(now, path, found)
    print(f"{path.name}: {path.stat().st_size / 1e6:.1f} MB; {found.describe(top=0)}")


def open_page(browser: Browser, path: Path, scheme: str, **options: object) -> Page:
    """The report in a window of its own."""
    page = browser.new_context(color_scheme=scheme, device_scale_factor=1.5, **options).new_page()
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready]")
    return page


def go_to(page: Page, part: str) -> None:
    """Scroll to a part of the page, and let it be drawn."""
    page.evaluate(
        "part => document.querySelector(part).scrollIntoView({ behavior: 'instant' })", part
    )
    page.wait_for_timeout(500)


def take(page: Page, name: str) -> None:
    """Write what is in view, compress it, and weigh it."""
    path = FOLDER / name
    page.screenshot(path=path)
    with Image.open(path) as picture:
        plain = picture.convert("RGB")
    plain.save(path, optimize=True)
    print(f"{name}: {plain.width} x {plain.height}, {path.stat().st_size // 1000} kB")
    if path.stat().st_size > MOST_BYTES:
        raise SystemExit(f"{name} is larger than {MOST_BYTES} bytes: show less")


def take_all(browser: Browser, report: Path) -> None:
    """Every picture of the page."""
    page = open_page(browser, report, "light", **DESK)
    take(page, "screenshot.png")
    go_to(page, "#depth")
    take(page, "depth.png")
    go_to(page, "#layers")
    page.select_option("#statistic", "shift")
    box = page.locator("#layer-8 canvas").bounding_box()
    channel = 28.5 / 96
    page.mouse.move(box["x"] + channel * box["width"], box["y"] + box["height"] / 2)
    take(page, "layers.png")
    phone = open_page(browser, report, "dark", **PHONE)
    take(phone, "phone.png")


def main() -> None:
    """Make the report and its pictures."""
    FOLDER.mkdir(exist_ok=True)
    report = Path("build/report.html").resolve()
    report.parent.mkdir(exist_ok=True)
    make_report(report)
    with sync_playwright() as playwright:
        chromium = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        take_all(browser, report)
        browser.close()


if __name__ == "__main__":
    main()
