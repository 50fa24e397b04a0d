"""Give commands the options of dataclasses, so that several commands share one declaration.

A command whose parameter is a dataclass, as in `def profile(run: RunOptions, out: OutOption)`, has
an option for each field, which is declared as any parameter of a command:
`limit: Annotated[int | None, typer.Option(help=...)] = None`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, get_type_hints

_NAMED = inspect.Parameter.KEYWORD_ONLY


def spread_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the fields of its dataclasses as parameters, as typer reads them.

    Args:
        command: a function; each parameter whose type is a dataclass is replaced by its fields.
    """
    hints = get_type_hints(command, include_extras=True)
    sets: dict[str, Any] = {name: kind for name, kind in hints.items() if is_dataclass(kind)}
    names = {name: [each.name for each in fields(kind)] for name, kind in sets.items()}
    parameters = [
        each
        for name, own in inspect.signature(command).parameters.items()
        for each in (
            _list_fields(sets[name])
            if name in sets
            else [own.replace(annotation=hints[name], kind=_NAMED)]
        )
    ]

    @functools.wraps(command)
    def run(**given: Any) -> None:
        made = {
            name: kind(**{each: given.pop(each) for each in names[name]})
            for name, kind in sets.items()
        }
        command(**made, **given)

    # typer reads both.
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def _list_fields(kind: Any) -> Iterator[inspect.Parameter]:
    hints = get_type_hints(kind, include_extras=True)
    for each in fields(kind):
        default = inspect.Parameter.empty if each.default is MISSING else each.default
        yield inspect.Parameter(each.name, _NAMED, default=default, annotation=hints[each.name])
