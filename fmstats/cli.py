"""The entry point of the command line.

It can be imported without typer. An FmstatsError, from wherever, becomes one line on stderr and the
exit code 2, the same code as for a wrong option. Any other exception is a bug: it shows its trace
and has a code of its own, for 1, with which Python would end, says that a condition holds.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, TextIO, cast

from fmstats.errors import FmstatsError, needs
from fmstats.output.tables import make_printable

REFUSED = 2
BUG = 70  # EX_SOFTWARE
READER_GONE = 141  # as a shell tells of programs that SIGPIPE ends


class OutputLost(BaseException):
    """Stdout cannot be written: no Exception, so that nothing on the way takes it for its own."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that `arguments` (None: those of the process) name.

    Returns:
        2 where typer is missing, fmstats refused the request or stdout cannot be written; 70 for a
        bug; 141 where whoever read stdout has gone, as `head` does. Otherwise the command ends the
        process itself: 0 when done, 2 for wrong usage.
    """
    with _guard_streams():
        try:
            return _run(arguments)
        except OutputLost as lost:
            if lost.error.errno in (errno.EPIPE, errno.ECONNRESET):
                return READER_GONE
            print(f"error: cannot write to stdout: {lost.error.strerror}", file=sys.stderr)
            return REFUSED


def _run(arguments: Sequence[str] | None) -> int:
    try:
        with needs("the command line", "typer", "'fmstats[cli]'"):
            import typer  # noqa: F401
        from fmstats.commands import app

        app(args=None if arguments is None else list(arguments), prog_name="fmstats")
    except FmstatsError as error:
        print(f"error: {make_printable(str(error))}", file=sys.stderr)
        return REFUSED
    except Exception:
        traceback.print_exc()
        return BUG
    finally:
        sys.stdout.flush()  # Here, where its failure can still be told.
    return 0


class _Guarded:
    """A standard stream that tells of failing writes in its own way; else as it was."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError as error:
            self._fail(error)
            return len(text)

    def writelines(self, lines: Sequence[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._fail(error)

    def _fail(self, error: OSError) -> None:
        """Send what is still in the buffer nowhere: Python would try again when it ends."""
        with contextlib.suppress(OSError, ValueError):  # a stream of no file
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


class _GuardedOutput(_Guarded):
    def _fail(self, error: OSError) -> NoReturn:
        super()._fail(error)
        raise OutputLost(error)


@contextlib.contextmanager
def _guard_streams() -> Iterator[None]:
    """Guard stdout and stderr: a stderr that fails stays silent, for nobody could be told.

    Where the process was started without one of them, what goes there is dropped.
    """
    streams = sys.stdout, sys.stderr
    with contextlib.ExitStack() as opened:
        out, err = (
            opened.enter_context(open(os.devnull, "w", encoding="utf-8")) if s is None else s
            for s in streams
        )
        out = opened.enter_context(_buffer(out))
        sys.stdout, sys.stderr = cast(TextIO, _GuardedOutput(out)), cast(TextIO, _Guarded(err))
        try:
            yield
        finally:
            sys.stdout, sys.stderr = streams


@contextlib.contextmanager
def _buffer(stream: TextIO) -> Iterator[TextIO]:
    """The stream with a buffer, without which Python drops what a pipe or a disk did not take.

    It has none under PYTHONUNBUFFERED, as in many containers.
    """
    raw = getattr(stream, "buffer", None)
    if not isinstance(raw, io.RawIOBase):
        yield stream
        return
    stream.flush()
    buffered = io.BufferedWriter(raw)
    text = io.TextIOWrapper(
        buffered, encoding=stream.encoding, errors=stream.errors, line_buffering=True
    )
    try:
        yield text
    finally:  # without closing stdout
        text.detach()
        buffered.detach()
