"""The documentation builds as a site: no warning, every public name, nothing from elsewhere."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fmstats
from fmstats import drift, storage
from fmstats.backends import base
from fmstats.statistic import state as statistic
from fmstats.statistic import view as layout

pytest.importorskip("mkdocs")
pytest.importorskip("material")
pytest.importorskip("mkdocstrings_handlers.python")
griffe = pytest.importorskip("griffe")

ROOT = Path(__file__).parent.parent
PUBLIC = {name: getattr(fmstats, name) for name in fmstats.__all__ if name != "__version__"}
PUBLIC |= {
    "storage.save": storage.save,
    "drift.compare": drift.compare,
    "drift.Comparison": drift.Comparison,
    "backends.base.Backend": base.Backend,
    "backends.base.Meter": base.Meter,
    "backends.base.check_input": base.check_input,
    "statistic.State": statistic.State,
    "statistic.merge": statistic.merge,
    "layout.view_of": layout.view_of,
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        # Not --quiet: warnings that are not shown do not count.
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_pages_are_there_and_rendered(site: Path) -> None:
    pages = [path for path in site.rglob("*.html") if path.name != "404.html"]
    names = {str(path.relative_to(site)) for path in pages}
    assert {"index.html", "kernels/cpu.html", "kernels/cuda.html", "statistics.html"} <= names
    for page in pages:
        text = page.read_text(encoding="utf-8")
        article = text[text.index("<article") : text.index("</article")]
        words = re.sub(r"<[^>]+>", "", re.sub(r"<(pre|code).*?</\1>", "", article, flags=re.DOTALL))
        for left in ("|--", "```", "**", "](", "\n- ", "&lt;!--"):
            assert left not in words, f"{page.name}: {left!r} was not rendered"


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    fetched = re.compile(r"<(?:script|link|img|iframe)\b[^>]*?(?:src|href)=\"?(https?:)?//[^\s>]+")
    for page in site.rglob("*.html"):
        found = fetched.search(page.read_text(encoding="utf-8"))
        assert found is None, f"{page.name}: {found}"


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    text = (site / "api.html").read_text(encoding="utf-8")
    documented = set(re.findall(r'id="(fmstats[\w.]*)"', text))
    for name, thing in PUBLIC.items():
        # A function that has the name of its module is found there.
        assert documented & {f"fmstats.{name}", path_of(thing)}, name
        for method in methods_of(thing):
            assert documented & {f"fmstats.{name}.{method}", f"{path_of(thing)}.{method}"}, method


def test_every_parameter_is_described() -> None:
    """In Args, by name in the text, or by what the docstring refers to ("See `...`")."""
    package = griffe.load("fmstats", search_paths=[str(ROOT)], docstring_parser="google")
    functions = []
    for thing in PUBLIC.values():
        found = package[path_of(thing).removeprefix("fmstats.")]
        functions += [found] if found.is_function else []
        functions += [found[name] for name in methods_of(thing) if found[name].is_function]
    assert len(functions) > 50
    missing = []
    for function in functions:
        assert function.docstring is not None, function.path
        text = function.docstring.value
        described = {
            parameter.name.lstrip("*")
            for section in function.docstring.parsed
            if section.kind.value == "parameters"
            for parameter in section.value
        }
        for name in (parameter.name.lstrip("*") for parameter in function.parameters):
            known = name in described or f"`{name}`" in text or "See `" in text
            if name not in ("self", "cls") and not known:
                missing.append(f"{function.path}({name})")
    assert not missing


def path_of(thing: type) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


def methods_of(thing: object) -> list[str]:
    if not isinstance(thing, type):
        return []
    kinds = (property, classmethod, staticmethod)
    return [
        name
        for name, value in vars(thing).items()
        if not name.startswith("_") and (isinstance(value, kinds) or inspect.isfunction(value))
    ]
