"""How all processes stop, or save by the clock, at the same step, whichever process a signal reaches.

Process 0 orders a stop or a save two places ahead of its own place. No process is more than one place ahead of another:
each waits for the result of the step before, which all compute together. So every process sees an order in time.
"""

from collections.abc import Callable, Mapping

from alexnet_jax.devices import cluster
from alexnet_jax.signals import Stop

AHEAD = 2  # places
STOP, SAVE = "stop", "save"


class Agreement:
    """Asked at every place that all processes pass in the same order: after a step, before a validation batch."""

    def __init__(self, stop: Stop, time_is_up: Callable[[], bool]) -> None:
        """Starts before the first place.

        Args:
          stop: whether a signal has reached this process.
          time_is_up: whether the last checkpoint is too old, by process 0's clock.
        """
        self._stop, self._time_is_up = stop, time_is_up
        self._place, self._last_save = 0, 0
        self._told = False  # whether the other processes know of this one's signal

    def at_next_place(self) -> tuple[str | None, bool]:
        """The name of the signal if all processes stop here, else None; and whether all save here."""
        if cluster.count() == 1:
            return self._stop.name, self._time_is_up()
        self._place += 1
        if self._stop.name and not self._told:
            cluster.put(f"wish/{cluster.index()}", self._stop.name)
            self._told = True
        orders = cluster.got("order")
        if cluster.index() == 0:  # its new orders are for later places
            self._order(orders)
        place, _, name = orders.get(STOP, "").partition(" ")
        stops = bool(place) and int(place) <= self._place
        return name if stops else None, f"{SAVE}-{self._place}" in orders

    def _order(self, orders: Mapping[str, str]) -> None:
        wishes = cluster.got("wish")
        if wishes and STOP not in orders:
            cluster.put(f"order/{STOP}", f"{self._place + AHEAD} {wishes[min(wishes)]}")
        if self._time_is_up() and self._place > self._last_save:
            self._last_save = self._place + AHEAD
            cluster.put(f"order/{SAVE}-{self._last_save}", "")
