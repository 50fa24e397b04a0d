"""README and docs: their Python runs, their commands parse, what they quote and link to is there.

The ```python blocks of a page run one after the other, in one namespace and an empty folder. A
```text block directly after one is what it printed. `<!-- not run: REASON -->` before a block
leaves it out.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import pytest

from fmstats.demo.packages import require
from fmstats.errors import FmstatsError

ROOT = Path(__file__).parent.parent
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(ROOT.glob("csrc/*/README.md")),
]
_BLOCK = re.compile(
    r"^(?:<!-- not run: (?P<reason>.+?) -->\n)?```(?P<kind>[^\n]*)\n(?P<text>.*?)^```$",
    re.DOTALL | re.MULTILINE,
)
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_COMMAND = re.compile(r"(?:\S+ )*?(?:python3? )?(?:-m )?\bfmstats (?P<arguments>[a-z].*)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    kind: str
    text: str
    reason: str | None
    line: int
    quoted: str | None  # what the page says that it prints


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = list(_BLOCK.finditer(text))
    blocks = []
    for block, after in zip_longest(found, found[1:]):
        quoted = None
        if after is not None and after["kind"] == "text":
            quoted = after["text"] if not text[block.end() : after.start()].strip() else None
        line = text.count("\n", 0, block.start("text"))
        blocks.append(Block(page, block["kind"], block["text"], block["reason"], line, quoted))
    return blocks


def without_blocks(page: Path) -> str:
    return _BLOCK.sub("", page.read_text(encoding="utf-8"))


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def python_of(page: Path) -> list[Block]:
    return [block for block in blocks_of(page) if block.kind == "python" and not block.reason]


# What csrc/cpu/README.md shows is the formula, not a program.
RUN = [page for page in PAGES if python_of(page) and "csrc" not in page.parts]
LONG = {"docs/gallery.md"}  # two passes over 162 crops of photographs


# What frameworks say of themselves and of this machine.
@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.. is deprecated")
@pytest.mark.filterwarnings("ignore:.pin_memory. argument is set as true")
@pytest.mark.parametrize(
    "page",
    [pytest.param(p, marks=pytest.mark.long if named(p) in LONG else ()) for p in RUN],
    ids=named,
)
def test_python_runs_and_prints_what_is_quoted(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for package in ("pandas", "matplotlib"):
        pytest.importorskip(package)
    if page.name == "gallery.md":
        try:
            require()
        except FmstatsError as error:
            pytest.skip(str(error))
        (tmp_path / "gallery").mkdir()  # which is in docs/
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": page.stem}
    for block in python_of(page):
        # Moved down, so that a traceback has the lines of the page.
        exec(compile("\n" * block.line + block.text, str(page), "exec"), names)
        printed = capsys.readouterr().out
        if block.quoted is not None:
            assert lines_of(printed) == lines_of(block.quoted), f"{named(page)}:{block.line}"


def lines_of(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


def test_the_pages_are_found() -> None:
    assert {"README.md", "docs/diagnose.md", "docs/backend.md"} <= set(map(named, RUN))
    quoting = {named(page) for page in RUN for block in python_of(page) if block.quoted}
    assert {"docs/diagnose.md", "docs/analyze.md", "docs/statistics.md"} <= quoting


def test_blocks_say_what_they_are() -> None:
    """Python that nobody marks as Python would never run."""
    for page in PAGES:
        for block in blocks_of(page):
            where = f"{named(page)}:{block.line}"
            assert block.kind in ("", "sh", "python", "text", "c++", "yaml", "diff"), where
            if block.kind in ("", "sh"):
                assert not re.search(r"^(import|from|print\(|\w+ = )", block.text, re.M), where
        assert not re.search(r"\n\n    (?![-*\d ])\S", without_blocks(page)), (
            f"{named(page)}: fence what is indented, and say what it is"
        )


@dataclass(frozen=True)
class Command:
    """A line that a reader may type, or a part of one, quoted in a sentence."""

    page: Path
    text: str
    whole: bool


def commands_of(page: Path) -> Iterator[Command]:
    for block in blocks_of(page):
        if block.kind in ("", "sh"):
            for line in block.text.replace("\\\n", " ").splitlines():
                yield Command(page, line.strip().removeprefix("$ "), whole=True)
    for code in _INLINE.findall(without_blocks(page)):
        yield Command(page, code, whole=False)


COMMANDS = [command for page in PAGES for command in commands_of(page)]


def tokens_of(text: str) -> list[str]:
    """The words of a shell line, up to a comment, a pipe or a redirection."""
    words = shlex.split(text, comments=True)
    ends = [i for i, word in enumerate(words) if word in ("|", ">", ">>", "&&", ";", "2>&1")]
    return words[: ends[0]] if ends else words


def test_fmstats_commands_parse() -> None:
    typer = pytest.importorskip("typer")
    from fmstats.commands import app

    group, seen = typer.main.get_command(app), 0
    for command in COMMANDS:
        found = _COMMAND.fullmatch(command.text)
        if found is None or not re.match(r"(\S+ )*(-m )?fmstats ", command.text):
            continue
        name, *arguments = tokens_of(found["arguments"])
        where = f"{named(command.page)}: {command.text}"
        assert name in group.commands, f"{where}: no command {name}; there are {[*group.commands]}"
        known = group.commands[name]
        options = {o for p in known.params for o in (*p.opts, *p.secondary_opts)} | {"-h", "--help"}
        for word in arguments:
            if re.match(r"-{1,2}[a-z]", word):
                assert word.split("=")[0] in options, f"{where}: no option {word}"
        if command.whole:
            try:
                known.make_context(name, arguments)
            except Exception as error:
                pytest.fail(f"{where}: {error}")
        seen += 1
    assert seen > 20


def test_make_targets_are_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    asked = {
        (named(command.page), target)
        for command in COMMANDS
        for target in re.findall(r"^make ([a-z-]+)", command.text)
    }
    assert len(asked) > 5
    assert not {(page, target) for page, target in asked if target not in targets}


def test_extras_are_there() -> None:
    config = (ROOT / "pyproject.toml").read_text()
    extras = set(re.findall(r"^([a-z\d-]+) = \[", config.split("optional-dependencies]")[1], re.M))
    for command in COMMANDS:
        for asked in re.findall(r"pip install .*?\[([\w,-]+)\]", command.text):
            assert set(asked.split(",")) <= extras, f"{named(command.page)}: {command.text}"


def test_files_that_are_named_are_there() -> None:
    path = re.compile(
        r"(?<![\w/.])((?:docs|benchmarks|tests|fmstats|csrc)/[\w/.-]+\.(?:py|md|h|cpp|cuh?|json|svg))\b"
    )
    for command in COMMANDS:
        for place in path.findall(command.text):
            if "*" not in command.text and "NAME" not in place:
                assert (ROOT / place).exists(), f"{named(command.page)}: {place}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(_INLINE.sub("", without_blocks(page))):
        if "://" in target:
            continue
        place, _, anchor = target.partition("#")
        path = (page.parent / place).resolve() if place else page
        assert path.is_file(), f"{named(page)}: {target}"
        assert ROOT in path.parents, f"{named(page)}: {target} leads out of the tree"
        if anchor:
            assert anchor in anchors_of(path), f"{named(page)}: {target}"


def anchors_of(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.*)$", without_blocks(page), re.M)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}
