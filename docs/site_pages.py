"""What mkdocs needs beside mkdocs.yml: pages that lie elsewhere in the tree, and their links.

Every page is written for GitHub, with links relative to its own file. Here each link is turned to
where its target lies in the site: another page, or, for a source file, a copy under source/.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
# Pages that are not in docs/, by their place in the tree.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "csrc/cpu/README.md": "kernels/cpu.md",
    "csrc/cuda/README.md": "kernels/cuda.md",
}
_ORIGINS = {there: here for here, there in PAGES.items()}
_CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)#])")
_COMMENT = re.compile(r"^<!--.*?-->$", re.DOTALL | re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that lie elsewhere, and the source files that any page links to."""
    for here, there in PAGES.items():
        files.append(File.generated(config, there, abs_src_path=str(ROOT / here)))
    for page in list(files.documentation_pages()):
        origin = _origin_of(page)
        for target in _targets_in(page.content_string):
            place = _place_of(origin, target)
            if place.startswith("source/") and files.get_file_from_path(place) is None:
                path = str(ROOT / place.removeprefix("source/").removesuffix(".txt"))
                files.append(File.generated(config, place, abs_src_path=path))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Turn links to where their targets lie in the site.

    Comments, which mark tables that scripts write, would join them to the paragraph before.
    """
    origin, folder = _origin_of(page.file), posixpath.dirname(page.file.src_uri)

    def turn(link: re.Match[str]) -> str:
        if _leads_outside(link[1]):
            return link[1]
        return posixpath.relpath(_place_of(origin, link[1]), folder or ".")

    return _outside_code(lambda text: _LINK.sub(turn, _COMMENT.sub("", text)), markdown)


def _origin_of(file: File) -> str:
    """Where the text of a page lies in the tree."""
    return _ORIGINS.get(file.src_uri, f"docs/{file.src_uri}")


def _targets_in(markdown: str) -> Iterator[str]:
    for target in _LINK.findall(_CODE.sub("", markdown)):
        if not _leads_outside(target):
            yield target


def _leads_outside(target: str) -> bool:
    return "://" in target or target.startswith("mailto:")


def _place_of(origin: str, target: str) -> str:
    """Where in the site the target of a link in a page from `origin` is."""
    path = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
    if path in PAGES:
        return PAGES[path]
    if not (ROOT / path).is_file():
        raise PluginError(f"{origin}: the link {target} leads to no file")
    return path.removeprefix("docs/") if path.startswith("docs/") else f"source/{path}.txt"


def _outside_code(change: Callable[[str], str], markdown: str) -> str:
    done, at = [], 0
    for code in _CODE.finditer(markdown):
        done += [change(markdown[at : code.start()]), code[0]]
        at = code.end()
    return "".join([*done, change(markdown[at:])])
