"""`GroupNames` tells what groups are called, and which number a name stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fmstats.errors import FmstatsError


class GroupNames:
    """The names of groups, which are numbered from 0.

    Args:
        names: in their order or by their numbers; None, or a number that is not among them: a
            group is called by its number.

    Raises:
        FmstatsError: a name is no text, is empty, or comes twice.
    """

    def __init__(self, names: Sequence[str] | Mapping[int, str] | None = None) -> None:
        given = names if isinstance(names, Mapping) else dict(enumerate(names or ()))
        for number, name in given.items():
            if type(number) is not int or number < 0 or not isinstance(name, str) or not name:
                raise FmstatsError(
                    f"group_names: {number!r} is called {name!r}; give texts, in the order of the "
                    "groups or by their numbers"
                )
        self._names = dict(given)
        self._numbers = {name: number for number, name in given.items()}
        if isinstance(names, str) or len(self._numbers) < len(self._names):
            raise FmstatsError(f"group_names={names!r}: give each group a name of its own")

    def __getitem__(self, number: int) -> str:
        return self._names.get(number, str(number))

    def number(self, name: str) -> int:
        """Return the number of a group that has a name.

        Raises:
            FmstatsError: no group is called so.
        """
        if name in self._numbers:
            return self._numbers[name]
        if name.isdecimal() and int(name) not in self._names:
            return int(name)
        raise FmstatsError(f"no group is called {name!r}: group_names has {list(self._numbers)}")
