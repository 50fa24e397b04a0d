"""An `Allowance` tells when a share of the time of passes pays for one that is measured."""

from __future__ import annotations

import math
import statistics

FEW = 3  # measured passes, before which nobody knows what one costs
_RECENT = 9  # passes whose median is the usual one
_SAVED = 4  # measured passes that are paid for in advance, at most
_MOST = 100  # usual costs that one measured pass is charged, at most
_ROUNDING = 1 - 1e-9


class Allowance:
    """An allowance gains a share of the time of each pass, and pays for those that are measured.

    What a measured pass costs is the median of the last ones, so that one that was disturbed has no
    say. Credit is saved up for a few measured passes only: time that was long once, as that of a
    pass that compiles, and passes that were cheap, pay for nothing that comes later.

    `copy.copy` of one stays as it was: attributes are replaced, not changed.

    Args:
        share: of the time without measuring.
        exact: whether costs are what was spent, and not found by comparing passes, which others
            may have disturbed.

    Attributes:
        cost: what a measured pass usually costs, None before `FEW` of them.
        costs: what the last ones cost.
        credit: what may be spent now; below 0 it is a debt.
        spent, forward: the sums over all passes of what was spent, and of the time without it.
    """

    def __init__(self, share: float, *, exact: bool = True) -> None:
        self._share, self._exact = share, exact
        self.cost: float | None = None
        self.costs: tuple[float, ...] = ()
        self.credit = self.spent = self.forward = 0.0
        self._forwards: tuple[float, ...] = ()
        self._most = math.inf  # credit, once it is known what a measured pass costs

    def affords(self, passes: float) -> bool:
        """Return whether so many measured passes are paid for; False while the cost is unknown."""
        return self.cost is not None and self.credit >= passes * self.cost * _ROUNDING

    @property
    def is_cheap(self) -> bool:
        """Return whether the share would pay for each pass, if it cost as much as the last one."""
        return self.cost is not None and self.costs[-1] <= self._share * self._forward_usual()

    @property
    def spent_share(self) -> float:
        """Return the share of the time that measuring has taken."""
        spent = self.spent if self.cost is not None else sum(self.costs)
        return spent / self.forward if self.forward else 0.0

    @property
    def every(self) -> int:
        """Return in how many passes the share pays for a measured one.

        While the cost is not known it is taken for that of another pass.
        """
        usual = self._forward_usual()
        cost = 1.0 if self.cost is None or not usual else self.cost / usual
        return max(1, math.ceil(cost / self._share * _ROUNDING))

    def gain(self, forward: float) -> None:
        """Note a pass that took so long without measuring."""
        self.forward += forward
        self.credit += self._share * forward
        if self.credit > self._most:
            self.credit = self._most

    def learn(self, cost: float, forward: float) -> None:
        """Note what one more measured pass cost, and how long it took apart from that.

        As soon as they are enough, those that the cost was learned from are paid for.
        """
        self.costs = (*self.costs[1 - _RECENT :], cost)
        self._forwards = (*self._forwards[1 - _RECENT :], forward)
        if len(self.costs) >= FEW:
            was_known = self.cost is not None
            self.cost = statistics.median(self.costs)
            if not was_known:
                for each in self.costs:
                    self.pay(each if self._exact else self.cost)
            self._most = _SAVED * self.cost
            self.credit = min(self.credit, self._most)

    def pay(self, cost: float) -> None:
        """Note that so much was spent on a pass, once it is known what one usually costs."""
        self.spent += cost
        self.credit -= min(cost, _MOST * (self.cost or 0.0))

    def renew(self) -> None:
        """Forget all passes, but not what a measured one costs."""
        self.credit = self.spent = self.forward = 0.0

    def _forward_usual(self) -> float:
        return statistics.median(self._forwards) if self._forwards else 0.0
