"""What a terminal shows, and what a pipe gets: golden files, colours, and hostile names.

FMSTATS_OVERWRITE_GOLDEN=1 writes the golden files anew; read the difference before you keep it.
"""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from profile_files import layer_of, profile_of

import fmstats
from fmstats import Profile
from fmstats.cli import main
from fmstats.output.tables import Column, Table
from fmstats.output.terminal import fit_columns, print_blocks, shorten_names
from fmstats.statistic.thresholds import Thresholds
from fmstats.storage import save

pytest.importorskip("typer", reason="needs typer")
cells = pytest.importorskip("rich.cells", reason="needs rich")
pty = pytest.importorskip("pty", reason="needs a system with pseudo terminals")
fcntl = pytest.importorskip("fcntl", reason="needs a system with pseudo terminals")
termios = pytest.importorskip("termios", reason="needs a system with pseudo terminals")

GOLDEN = Path(__file__).parent / "golden" / "terminal"
WIDTHS = (60, 80, 140)
RELU6 = Thresholds(0.0, None, 6.0)
NET = """
from torch import nn
def net():
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)),
        nn.Flatten(),
        nn.Linear(32, 10),
    )
"""
Shown = Callable[..., str]


def some_numbers(channels: int, scale: float, shift: float = 0.0) -> torch.Tensor:
    """The same on every machine: no random numbers, and only sums and products."""
    n = torch.arange(800 * channels, dtype=torch.float64)
    return ((n * 7919 % 1000 - 500) / 250 * scale + shift).reshape(800, channels)


def transformer(growth: float = 0.0) -> Profile:
    """Long names, a dead channel, a NaN, bounds that are reached; no two layers grow alike."""
    layers = {}
    for i in range(3):
        x = some_numbers(6, i + 1, shift=0.25 * i)
        x *= 1 + growth * (1 + torch.arange(6) / 8 + i / 4)
        layers[f"encoder.layers.{i}.attention.output.dense"] = layer_of(x, type="Linear")
        act = x.mul(4).clamp(0, 6)
        act[:, i] = 0
        layers[f"encoder.layers.{i}.activation"] = layer_of(act, RELU6, type="ReLU6")
    head = some_numbers(3, 0.5)
    head[7, 1] = torch.nan
    layers["head"] = layer_of(head, type="Linear")
    return profile_of(layers, samples=800, data="rows.npy")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    save(transformer(), "run.fmstats")
    save(transformer(0.5), "old.fmstats")
    Path("some_terminal_net.py").write_text(NET)
    yield tmp_path
    sys.modules.pop("some_terminal_net", None)


def run_to_the_end(*arguments: object) -> object:
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code


@pytest.fixture
def on_terminal(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Shown:
    """Runs a command line with a pseudo terminal as stdout; returns all that reached it."""

    def run(width: int, *arguments: object, encoding: str = "utf-8") -> str:
        monkeypatch.setenv("COLUMNS", str(width))
        outer, inner = pty.openpty()
        seen: list[bytes] = []
        codes: list[object] = []

        def drain() -> None:
            try:
                while piece := os.read(outer, 65536):
                    seen.append(piece)
            except OSError:  # The other end was closed.
                pass

        reader = threading.Thread(target=drain)
        reader.start()
        with os.fdopen(inner, "w", encoding=encoding) as stdout, monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", stdout)
            codes.append(run_to_the_end(*arguments))
        reader.join()
        os.close(outer)
        assert codes == [0]
        return b"".join(seen).decode(encoding).replace("\r\n", "\n")

    return run


def without_styles(text: str) -> str:
    text = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


def assert_golden(name: str, printed: str) -> None:
    path = GOLDEN / name
    if os.environ.get("FMSTATS_OVERWRITE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(printed)
    assert printed == path.read_text()


COMMANDS = {
    "show": ("show", "run.fmstats"),
    "show-chosen": ("show", "run.fmstats", "--depth", 3, "--sort", "-max", "--top", 2),
    "diagnose": ("diagnose", "run.fmstats", "--fail-on", "dead>90%"),
    "compare": ("compare", "run.fmstats", "old.fmstats", "--top", 3),
    "analyze": ("analyze", "some_terminal_net.py:net", "--input", "1,3,32,32"),
}


@pytest.mark.parametrize("width", [30, 33, 60])
@pytest.mark.parametrize("word", ["\u5c42\u5c42.", "\u5c42" * 50 + " ", "layer. "])
def test_no_line_of_text_is_wider_than_the_terminal(
    on_terminal: Shown, width: int, word: str
) -> None:
    text = (word * 40).strip()
    save(profile_of({"a": layer_of(some_numbers(3, 1))}, skipped=[text]), "one.fmstats")
    printed = without_styles(on_terminal(width, "show", "one.fmstats"))
    first, *others = printed.split("Left out: 1 sample or batch\n")[1].splitlines()
    assert len(others) > 1
    assert max(map(cells.cell_len, [first, *others])) <= width
    assert len(others) < 2 * cells.cell_len(text) / (width - 4)
    assert first[2] + others[0][4] == text[0] + others[0].lstrip()[0]
    assert "".join(printed.split()).endswith("".join(text.split()))


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("width", WIDTHS)
def test_golden_terminals(on_terminal: Shown, name: str, width: int) -> None:
    printed = without_styles(on_terminal(width, *COMMANDS[name]))
    assert max(map(len, printed.splitlines())) <= width
    assert_golden(f"{name}-{width}.txt", printed)


@pytest.mark.parametrize("name", COMMANDS)
def test_golden_pipes(command_line: Shown, folder: Path, name: str) -> None:
    code, printed, err = command_line(*COMMANDS[name])
    assert (code, err) == (0, "")
    assert_golden(f"{name}-piped.txt", printed)


def our_part(printed: str) -> str:
    """Help without the options, whose words are typer's."""
    printed = re.sub(r"(?s)^Options:\n.*?\n\n", "", printed, flags=re.MULTILINE)
    return re.sub(r"^  report .*\n", "", printed, flags=re.MULTILINE)


@pytest.mark.parametrize("width", WIDTHS)
def test_golden_help(on_terminal: Shown, width: int) -> None:
    assert_golden(f"help-{width}.txt", our_part(on_terminal(width, "--help")))


def run_process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    here = {**os.environ, "PYTHONPATH": str(Path(fmstats.__file__).parents[1]), **environment}
    command = [sys.executable, "-m", "fmstats", *arguments]
    return subprocess.run(command, capture_output=True, env=here, timeout=120, check=True)


def test_golden_help_in_a_pipe(folder: Path) -> None:
    assert_golden("help-piped.txt", our_part(run_process("--help").stdout.decode()))


@pytest.mark.parametrize("width", [1, 20, 33, 47, 61, 79, 100, 139, 200])
def test_no_line_is_wider_than_the_terminal(on_terminal: Shown, width: int) -> None:
    for command in ("show", "compare"):
        printed = without_styles(on_terminal(width, *COMMANDS[command]))
        assert max(map(cells.cell_len, printed.splitlines())) <= max(width, 20)


def test_a_wide_terminal_shows_what_a_pipe_gets(on_terminal: Shown, command_line: Shown) -> None:
    for command in COMMANDS.values():
        printed = without_styles(on_terminal(500, *command))
        assert printed == command_line(*command)[1]
        assert "not shown" not in printed


def test_what_is_left_out_is_named(on_terminal: Shown) -> None:
    printed = on_terminal(60, "show", "run.fmstats")
    header = without_styles(printed).splitlines()[3]
    assert header.split() == ["layer", "mean", "nan+inf"]
    assert "\x1b[2mnot shown: type, channels, mean spread, std, sparsity, dead" in printed
    assert "min, max (--json, --csv or a wider terminal" in printed
    assert "not shown: " in on_terminal(60, "compare", "run.fmstats", "old.fmstats")


def test_the_column_sorted_by_stays(on_terminal: Shown) -> None:
    printed = without_styles(on_terminal(50, "show", "run.fmstats", "--sort", "mean_spread"))
    assert "mean spread" in printed.splitlines()[4]


def test_a_real_terminal_tells_its_width(folder: Path) -> None:
    outer, inner = pty.openpty()
    fcntl.ioctl(inner, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 80, 0, 0))
    root = str(Path(fmstats.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-m", "fmstats", "show", "run.fmstats"],
        stdin=inner,
        stdout=inner,
        stderr=inner,
        env={**os.environ, "PYTHONPATH": root},
    )
    os.close(inner)
    seen = b""
    while True:
        try:
            piece = os.read(outer, 65536)
        except OSError:  # The process has ended.
            break
        if not piece:
            break
        seen += piece
    os.close(outer)
    assert process.wait(120) == 0
    printed = without_styles(seen.decode().replace("\r\n", "\n"))
    assert printed == (GOLDEN / "show-80.txt").read_text()


COLOUR = re.compile(r"\x1b\[(?:[0-9;]*;)?3[0-7]m")


def test_severity_has_a_colour(on_terminal: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    printed = on_terminal(100, "diagnose", "run.fmstats")
    assert "\n\x1b[33mwarning\x1b[0m  never-active" in printed
    assert printed.startswith("\x1b[1;31merror\x1b[0m    non-finite")
    assert set(COLOUR.findall(printed)) == {"\x1b[1;31m", "\x1b[33m"}
    monkeypatch.setenv("NO_COLOR", "1")
    plain = on_terminal(100, "diagnose", "run.fmstats")
    assert not COLOUR.search(plain)
    assert without_styles(plain) == without_styles(printed)


def test_cells_that_deserve_a_look_have_a_colour(on_terminal: Shown) -> None:
    lines = on_terminal(140, "show", "run.fmstats").splitlines()
    dead = next(line for line in lines if ".0.activation" in line)
    assert COLOUR.findall(dead) == ["\x1b[33m"]
    nan = next(line for line in lines if line.startswith("head"))
    assert COLOUR.findall(nan) == ["\x1b[1;31m"]
    fine = next(line for line in lines if ".0.attention" in line)
    assert "\x1b" not in fine


def test_a_verdict_has_a_colour(on_terminal: Shown) -> None:
    assert "\n\x1b[1;31mdrift\x1b[0m: score" in on_terminal(80, *COMMANDS["compare"])
    save(transformer(1e-4), "same.fmstats")
    same = on_terminal(80, "compare", "run.fmstats", "same.fmstats")
    assert "\n\x1b[32mno drift\x1b[0m: score" in same


def test_a_dumb_terminal_gets_no_escapes(
    on_terminal: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    printed = on_terminal(80, "show", "run.fmstats")
    assert "\x1b" not in printed
    assert without_styles(printed) == (GOLDEN / "show-80.txt").read_text()


def test_colours_in_a_pipe_only_by_force(
    command_line: Shown, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    plain = command_line(*COMMANDS["show"])[1]
    assert plain == (GOLDEN / "show-piped.txt").read_text()
    monkeypatch.setenv("FORCE_COLOR", "")
    assert command_line(*COMMANDS["show"])[1] == plain
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = command_line(*COMMANDS["show"])[1]
    assert COLOUR.search(coloured)
    assert without_styles(coloured) == plain  # neither cut nor broken
    monkeypatch.setenv("NO_COLOR", "1")
    assert not COLOUR.search(command_line(*COMMANDS["show"])[1])


HOSTILE = "[red]a[/red].\x1b]0;owned\x07\x1b[31m\x9b2J\r\n\t\u202eb.\u5c42"


def hostile_files() -> None:
    odd = {"model": f"M{HOSTILE}", "started": HOSTILE, "ended": HOSTILE, "skipped": [HOSTILE]}
    odd |= {"coverage": [{"name": HOSTILE, "type": HOSTILE, "status": "skipped"}]}
    bad = some_numbers(2, 1.0)
    bad[0, 0], bad[:, 1] = torch.nan, 0
    save(
        profile_of({HOSTILE: layer_of(bad, type="[blink]x\x1b[5m")}, samples=9, **odd), "h.fmstats"
    )
    for name, kind in (("i", "[blink]x\x1b[5m"), ("other", "\x1b[6mConv2d")):
        profile = profile_of({HOSTILE: layer_of(bad * 2, type=kind)}, samples=900, **odd)
        save(profile, f"{name}.fmstats")


HOSTILE_COMMANDS = (
    ("show", "h.fmstats"),
    ("show", "h.fmstats", "--csv"),
    ("show", "h.fmstats", "--json"),
    ("diagnose", "h.fmstats"),
    ("diagnose", "h.fmstats", "--json"),
    ("compare", "h.fmstats", "i.fmstats"),
    ("merge", "h.fmstats", "i.fmstats", "--out", "j.fmstats"),
)


@pytest.mark.parametrize("command", HOSTILE_COMMANDS, ids=" ".join)
@pytest.mark.parametrize("width", [60, 400])
def test_names_cannot_command_a_terminal(
    on_terminal: Shown, command: tuple[str, ...], width: int
) -> None:
    hostile_files()
    printed = without_styles(on_terminal(width, *command))
    assert all(c.isprintable() or c == "\n" for c in printed)
    if command[-1] not in ("--json", "--csv", "j.fmstats") and width == 400:
        assert "[red]a[/red].\\x1b]0;owned\\x07\\x1b[31m\\x9b2J\\r\\n\\t\\u202eb.\u5c42" in printed


def test_names_cannot_command_what_a_pipe_is_shown_by(command_line: Shown, folder: Path) -> None:
    hostile_files()
    printed = command_line("show", "h.fmstats")[1] + command_line("diagnose", "h.fmstats")[1]
    assert all(c.isprintable() or c == "\n" for c in printed)
    for text in (str(fmstats.load("h.fmstats")), str(fmstats.load("h.fmstats").diagnose())):
        assert all(c.isprintable() or c == "\n" for c in text)


def test_errors_cannot_command_a_terminal(command_line: Shown, folder: Path) -> None:
    hostile_files()
    code, _, error = command_line("merge", "h.fmstats", "other.fmstats", "--out", "j.fmstats")
    assert code == 2
    assert "[blink]x\\x1b[5m and \\x1b[6mConv2d" in error
    assert all(c.isprintable() for c in error.removesuffix("\n"))


def test_data_in_a_pipe_is_exact(command_line: Shown, folder: Path) -> None:
    hostile_files()
    assert f'"{HOSTILE}"' in command_line("show", "h.fmstats", "--csv")[1]


@pytest.mark.parametrize("encoding", ["ascii", "cp437", "latin-1"])
def test_any_encoding_will_do(
    on_terminal: Shown, monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    hostile_files()
    for command in HOSTILE_COMMANDS:
        printed = on_terminal(200, *command, encoding=encoding)
        if command == ("show", "h.fmstats"):
            assert "b.\\u5c42" in printed
        pipe = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", pipe)
            assert run_to_the_end(*command) == 0
        pipe.close()


def test_an_ascii_process(folder: Path) -> None:
    save(profile_of({"\u5c42": layer_of(some_numbers(2, 1.0))}), "h.fmstats")
    done = run_process("show", "h.fmstats", PYTHONIOENCODING="ascii")
    assert b"\\u5c42  Conv2d" in done.stdout
    assert done.stderr == b""


def test_without_rich_a_terminal_gets_plain_text(
    on_terminal: Shown, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    printed = on_terminal(60, *COMMANDS["show"])
    assert printed == (GOLDEN / "show-piped.txt").read_text()


def test_pipes_need_no_rich(folder: Path) -> None:
    code = (
        "import sys; from fmstats.output.terminal import print_blocks; print_blocks('a');"
        "print('rich' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "a\nFalse\n"


COLUMNS = (
    Column("name", "name", left=True, names=True),
    Column("a", "a", keep=2),
    Column("b", "b", keep=1),
    Column("c", "c", keep=1),
)


@pytest.mark.parametrize(
    ("room", "widths"),
    [
        (66, {0: 40, 1: 5, 2: 5, 3: 10}),
        (60, {0: 34, 1: 5, 2: 5, 3: 10}),
        (58, {0: 32, 1: 5, 2: 5, 3: 10}),
        (57, {0: 40, 1: 5, 2: 5}),  # of equals, the last one goes first
        (45, {0: 38, 1: 5}),
        (39, {0: 32, 1: 5}),
        (38, {0: 38}),
        (10, {0: 10}),
    ],
)
def test_columns_that_fit(room: int, widths: dict[int, int]) -> None:
    assert fit_columns(COLUMNS, (40, 5, 5, 10), room) == widths
    assert sum(widths.values()) + 2 * (len(widths) - 1) <= room


def test_names_keep_head_and_tail() -> None:
    assert shorten_names(["features.18.conv", "a"], 16) == ["features.18.conv", "a"]
    assert shorten_names(["encoder.layers.attention.dense"], 15) == ["encode...dense"]
    assert shorten_names(["\u5c42" * 20], 11) == ["\u5c42\u5c42...\u5c42\u5c42"]
    assert shorten_names(["abcdefgh"], 3) == ["..."]


def test_names_stay_different_where_they_can() -> None:
    names = [f"encoder.layers.{i}.attention.self.output.dense" for i in range(12)]
    names += [f"decoder.blocks.mlp.projection.of.layer.{i}" for i in range(12)]
    short = shorten_names(names, 32)
    assert len(set(short)) == len(names)
    assert all(20 < len(name) <= 32 for name in short)


def test_words_have_a_colour_only_where_they_open_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    print_blocks("an error  x", "errors: 1", "information  x", "error x", "  error    x")
    assert "\x1b" not in capsys.readouterr().out
    print_blocks("error    x", "not enough data")
    assert capsys.readouterr().out.count("\x1b[0m") == 2


def test_a_table_without_rows(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    print_blocks(Table(COLUMNS, []), "", "end")
    assert without_styles(capsys.readouterr().out) == "name  a  b  c\n\nend\n"
