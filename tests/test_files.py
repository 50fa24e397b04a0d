"""Files are written whole, keep what they are, and are distinguished by their content."""

from __future__ import annotations

import errno
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from pathlib import Path

import pytest

from fmstats.errors import FmstatsError
from fmstats.output.files import check_place, check_suffix, find_repeated, write_whole


def test_files_of_the_same_content(tmp_path: Path) -> None:
    a, b, c, d = (tmp_path / name for name in "abcd")
    a.write_bytes(b"x" * 300_000)
    b.write_bytes(b"x" * 299_999 + b"y")  # differs at its end alone
    c.write_bytes(b"x" * 299_999)
    d.write_bytes(a.read_bytes())
    assert find_repeated([a, b, c]) is None
    assert find_repeated([b, a, c, d]) == (a, d)
    assert find_repeated([b, b]) == (b, b)
    assert find_repeated([tmp_path / "absent", tmp_path / "absent"]) is None


def test_a_suffix_is_one_of_those_that_can_be_written() -> None:
    suffixes = (".png", ".pdf", ".svg")
    assert check_suffix(Path("folder.png", "A.PDF"), suffixes, "a picture") == ".pdf"
    for name in ("a.jpg", "a", ".png"):
        told = rf"cannot write '{name}': a picture ends in \.png, \.pdf or \.svg$"
        with pytest.raises(FmstatsError, match=told):
            check_suffix(Path(name), suffixes, "a picture")


def test_a_new_file_has_the_mode_of_the_umask(tmp_path: Path) -> None:
    for mask, mode in ((0o022, 0o644), (0o027, 0o640), (0o077, 0o600)):
        before = os.umask(mask)
        try:
            write_whole(tmp_path / f"{mask}", b"new")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / f"{mask}").stat().st_mode) == mode
    assert sorted(path.name for path in tmp_path.iterdir()) == ["18", "23", "63"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o666, 0o755])
def test_a_replaced_file_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "p"
    path.write_bytes(b"old")
    path.chmod(mode)
    number = path.stat().st_ino
    write_whole(path, b"new")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"new", mode)
    assert path.stat().st_ino != number  # replaced in one step, not written over


def test_a_private_file_is_private_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, seen = tmp_path / "p", []
    path.write_bytes(b"old")
    path.chmod(0o600)

    def look(descriptor: int) -> None:
        seen.append(stat.S_IMODE(os.fstat(descriptor).st_mode))

    monkeypatch.setattr(os, "fsync", look)
    made, open_ = [], os.open

    def note(name: Path, flags: int, mode: int = 0o777) -> int:
        made.append(mode)
        return open_(name, flags, mode)

    monkeypatch.setattr(os, "open", note)
    write_whole(path, b"new")
    assert (made[0], seen[0]) == (0o600, 0o600)


@pytest.mark.parametrize("old", [None, b"old"])
def test_the_content_is_on_the_disk_before_it_replaces_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bytes | None
) -> None:
    path, content, done, replace = tmp_path / "p", b"new", [], os.replace
    if old is not None:
        path.write_bytes(old)

    def sync(descriptor: int) -> None:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode):
            done.append(("folder", found.st_ino))
        else:
            done.append(("file", found.st_size, path.read_bytes() if path.exists() else None))

    def replacing(beside: Path, to: Path) -> None:
        done.append(("replaced", beside.parent, to))
        replace(beside, to)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "replace", replacing)
    write_whole(path, content)
    assert done == [
        *(("file", len(content), old), ("replaced", tmp_path, path)),
        ("folder", tmp_path.stat().st_ino),
    ]


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.EIO])
def test_a_folder_that_cannot_be_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Network file systems say so; a disk that fails says something else."""

    def sync(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", sync)
    open_before = len(os.listdir("/proc/self/fd"))
    told = pytest.raises(FmstatsError, match=os.strerror(errno.EIO))
    with told if code == errno.EIO else nullcontext():
        write_whole(tmp_path / "p", b"new")
    assert len(os.listdir("/proc/self/fd")) == open_before
    assert [p.name for p in tmp_path.iterdir()] == ["p"]


def test_a_replaced_file_keeps_its_owner(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, who may give files away")
    (tmp_path / "p").write_bytes(b"old")
    os.chown(tmp_path / "p", 1234, 4321)
    write_whole(tmp_path / "p", b"new")
    found = (tmp_path / "p").stat()
    assert (found.st_uid, found.st_gid) == (1234, 4321)


def test_a_replaced_file_keeps_its_owner_and_attributes(tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_bytes(b"old")
    try:
        os.setxattr(path, "user.note", b"mine")
    except OSError as error:
        pytest.skip(f"needs a file system with extended attributes: {error}")
    if os.geteuid() == 0:
        os.chown(path, 1234, 4321)
    owner = path.stat().st_uid, path.stat().st_gid
    write_whole(path, b"new")
    assert os.getxattr(path, "user.note") == b"mine"
    assert (path.stat().st_uid, path.stat().st_gid) == owner


@pytest.fixture
def as_somebody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In the folder, without the rights of root."""
    monkeypatch.chdir(tmp_path)
    if os.geteuid() != 0:
        yield
        return
    os.chown(tmp_path, 65534, 65534)
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def test_a_file_of_another_owner_gives_no_new_rights(tmp_path: Path, as_somebody: None) -> None:
    if os.getuid() != 0:
        pytest.skip("needs root, who makes a file of another owner")
    os.seteuid(0)
    for name, mode in (("closed", 0o662), ("open", 0o664)):
        Path(name).write_bytes(b"old")
        Path(name).chmod(mode)
        os.chown(name, 1234, 4321)
    os.chmod("open", 0o666)
    os.seteuid(65534)
    for name, mode in (("closed", 0o622), ("open", 0o666)):
        write_whole(Path(name), b"new")
        found = Path(name).stat()
        assert (Path(name).exists(), found.st_uid, stat.S_IMODE(found.st_mode)) == (
            True,
            65534,
            mode,
        )


@pytest.mark.parametrize("write", [check_place, lambda path: write_whole(path, b"new")])
def test_what_is_read_only_is_refused(as_somebody: None, write: Callable[[Path], None]) -> None:
    Path("p").write_bytes(b"old")
    Path("p").chmod(0o444)
    with pytest.raises(FmstatsError, match="cannot write 'p': it is read-only"):
        write(Path("p"))
    Path("folder").mkdir()
    Path("folder").chmod(0o555)
    with pytest.raises(FmstatsError, match=r"'folder/p': its folder 'folder' is read-only"):
        write(Path("folder/p"))
    Path("folder").chmod(0o755)
    with pytest.raises(FmstatsError, match="cannot write 'folder': it is a folder"):
        write(Path("folder"))
    with pytest.raises(FmstatsError, match=r"cannot write 'none/p': there is no folder 'none'"):
        write(Path("none/p"))
    assert Path("p").read_bytes() == b"old"


def test_a_folder_that_cannot_be_listed(as_somebody: None) -> None:
    Path("folder").mkdir()
    Path("folder").chmod(0o300)
    write_whole(Path("folder/p"), b"new")
    assert Path("folder/p").read_bytes() == b"new"


def test_symbolic_links_are_written_through(tmp_path: Path) -> None:
    real, folder = tmp_path / "real", tmp_path / "other"
    folder.mkdir()
    real.write_bytes(b"old")
    (folder / "link").symlink_to("../link")
    (tmp_path / "link").symlink_to(real)
    write_whole(folder / "link", b"new")
    assert real.read_bytes() == b"new"
    (tmp_path / "dangling").symlink_to("made")
    write_whole(tmp_path / "dangling", b"made")
    assert (tmp_path / "made").read_bytes() == b"made"
    assert all(p.is_symlink() for p in (folder / "link", tmp_path / "link", tmp_path / "dangling"))
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(FmstatsError, match="its symbolic links lead in a circle"):
        write_whole(tmp_path / "a", b"new")
    (tmp_path / "lost").symlink_to("none/p")
    with pytest.raises(FmstatsError, match=r"/lost': there is no folder '.*none'"):
        check_place(tmp_path / "lost")


def test_other_hard_links_keep_the_old_content(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b"old")
    os.link(tmp_path / "p", tmp_path / "backup")
    write_whole(tmp_path / "p", b"new")
    assert ((tmp_path / "p").read_bytes(), (tmp_path / "backup").read_bytes()) == (b"new", b"old")


def test_pipes_and_devices_are_written_into(tmp_path: Path) -> None:
    path, content = tmp_path / "pipe", bytes(300_000)
    os.mkfifo(path)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(path.read_bytes)
        write_whole(path, content)
        assert read.result(10) == content
    assert stat.S_ISFIFO(path.stat().st_mode)
    (tmp_path / "null").symlink_to("/dev/null")
    write_whole(tmp_path / "null", content)
    assert stat.S_ISCHR((tmp_path / "null").stat().st_mode)
    with pytest.raises(FmstatsError, match="cannot write '/dev/full': No space left on device"):
        write_whole(Path("/dev/full"), content)
    assert [path.name for path in tmp_path.glob(".*")] == []


def test_sockets_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        with pytest.raises(FmstatsError, match="cannot write 's': it is a socket"):
            write_whole(Path("s"), b"new")
    assert stat.S_ISSOCK(Path("s").stat().st_mode)


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "link"])
def test_stdout_is_written_where_the_shell_has_put_it(tmp_path: Path, name: str) -> None:
    (tmp_path / "link").symlink_to("/dev/stdout")
    code = (
        "from pathlib import Path; from fmstats.output.files import write_whole; "
        f"print('a', flush=True); write_whole(Path({name!r}), b'b'); print('c')"
    )
    command = [sys.executable, "-c", code]
    with (tmp_path / "out").open("wb") as file:
        subprocess.run(command, check=True, stdout=file, cwd=tmp_path)
    assert (tmp_path / "out").read_bytes() == b"a\nbc\n"
    done = subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    assert done.stdout == b"a\nbc\n"


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "p"
    path.write_bytes(b"old")
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from fmstats.output.files import write_whole\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_whole(Path(sys.argv[1]), bytes(2000))\n"
        "except ValueError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, path], check=True, capture_output=True, text=True
    )
    assert done.stdout == f"cannot write {str(path)!r}: File too large\n"
    assert [p.name for p in tmp_path.iterdir()] == ["p"]
    assert path.read_bytes() == b"old"


def test_a_group_is_kept_where_only_the_owner_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "p").write_bytes(b"old")
    (tmp_path / "p").chmod(0o640)
    given, stat_ = [], os.fstat

    def refuse_owners(file: int, user: int, group: int) -> None:
        if user != -1:
            raise PermissionError(1, "Operation not permitted")
        given.append(group)

    def of_others(file: int) -> os.stat_result:
        return os.stat_result((*stat_(file)[:4], 4711, 4712, *stat_(file)[6:]))

    monkeypatch.setattr(os, "fchown", refuse_owners)
    monkeypatch.setattr(os, "fstat", of_others)
    write_whole(tmp_path / "p", b"new")
    assert given == [(tmp_path / "p").stat().st_gid]
    assert stat.S_IMODE((tmp_path / "p").stat().st_mode) == 0o640
