"""What is built for users: the sdist, and a wheel that needs no compiler."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CONSTRAINTS = ROOT / "constraints.txt"

pytestmark = pytest.mark.long

# As a user of the installed package, outside of the checkout: hooks, kernels, files, sources.
SMOKE = """
import torch, fmstats
from fmstats.backends import choose_backend
from fmstats.statistic import fields

assert "site-packages" in fmstats.__file__
print(choose_backend("cpu", torch.device("cpu")).describe())
x = torch.relu(torch.randn(4, 8, 16, 16))
stats = fmstats.channel_stats(x)
assert abs(stats.mean - x.double().mean((0, 2, 3)).numpy()).max() < 1e-6
model = torch.nn.Sequential(torch.nn.Conv2d(8, 4, 3), torch.nn.ReLU())
with fmstats.track(model) as tracker:
    model(x)
tracker.stats().save("smoke.fmstats")
assert list(fmstats.load("smoke.fmstats")) == ["0", "1"]
print(sorted(path.name for path in fields.sources().rglob("*.cu*")))
"""


def run(*command: object, **options: object) -> str:
    """Standard output of a command that must succeed."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, **options)  # type: ignore[call-overload]
    assert done.returncode == 0, done.stdout + done.stderr
    return str(done.stdout)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that is built from it alone."""
    pytest.importorskip("build", reason="needs build")
    folder = tmp_path_factory.mktemp("dist")
    # Of what is in the repository: nothing else on this machine may get in.
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    tree = folder / "tree"
    for name in filter(lambda n: (ROOT / n).is_file(), listed.splitlines()):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes((ROOT / name).read_bytes())
    run(sys.executable, "-m", "build", "--outdir", folder, tree)
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    (found,) = built.glob("*.whl")
    return found


def test_the_sdist_has_what_building_needs(built: Path) -> None:
    (found,) = built.glob("*.tar.gz")
    with tarfile.open(found) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = {str(p.relative_to(ROOT)) for p in (ROOT / "csrc").rglob("*") if p.is_file()}
    assert sources | {"setup.py", "pyproject.toml", "LICENSE", "README.md"} <= names


def test_the_wheel_has_what_running_needs_and_no_more(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        unpacked = sum(entry.file_size for entry in archive.infolist())
    tops = {name.partition("/")[0] for name in names}
    assert tops == {"fmstats", next(top for top in tops if top.endswith(".dist-info"))}
    in_tree = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "fmstats").rglob("*")
        if path.is_file() and path.suffix not in (".so", ".pyc")
    }
    assert in_tree <= names
    assert any(name.startswith("fmstats/_native.") for name in names)
    cuda = {path.name for path in (ROOT / "csrc/cuda").glob("*.cu*")}
    assert {f"fmstats/csrc/cuda/{name}" for name in cuda} <= names
    shared = {name for name in names if name.count("/") == 2 and name.startswith("fmstats/csrc/")}
    headers = ("fields", "parts", "reread", "state", "view")
    assert shared == {f"fmstats/csrc/{name}.h" for name in headers}
    assert not [name for name in names if "test" in name or name.endswith((".cpp", ".so.debug"))]
    print(f"{wheel.stat().st_size:,} bytes packed, {unpacked:,} unpacked, {len(names)} files")
    assert wheel.stat().st_size < 1_500_000


def test_the_wheel_works_without_a_compiler(wheel: Path, tmp_path: Path) -> None:
    place = tmp_path / "venv"
    venv.create(place, with_pip=True)
    python = place / "bin" / "python"
    # No compiler is on this PATH, and one that was asked for would fail.
    environment = {**os.environ, "PATH": str(place / "bin"), "CC": "false", "CXX": "false"}
    environment.pop("PYTHONPATH", None)
    options = {"env": environment, "cwd": tmp_path}
    install = [python, "-m", "pip", "install", "--quiet", "--constraint", CONSTRAINTS]
    run(*install, f"{wheel}[cli]", **options)
    output = run(python, "-c", SMOKE, **options)
    assert "-bit vectors" in output
    assert "'kernels.cu'" in output
    assert "cpu" in run(place / "bin" / "fmstats", "backends", **options)
    assert "smoke.fmstats: 2 layers" in run(
        place / "bin" / "fmstats", "show", "smoke.fmstats", **options
    )


EXTRAS = re.findall(
    r"^([a-z\d-]+) = \[",
    (ROOT / "pyproject.toml").read_text().split("optional-dependencies]")[1].split("\n[")[0],
    re.MULTILINE,
)


@pytest.mark.parametrize("extra", EXTRAS)
def test_every_extra_resolves(wheel: Path, extra: str) -> None:
    """With torch as it is pinned for development: nothing drags in another one."""
    run(
        *[sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"],
        *["--constraint", CONSTRAINTS, f"{wheel}[{extra}]"],
    )
