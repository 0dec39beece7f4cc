"""Where all processes stop, or save by the clock: at the same place, whichever of them was told to.

Process 0 orders it for a place two ahead of its own. No process is further than one place ahead of another: each
waits for the result of the step before, which all have computed together. So each sees an order before its place.
"""

from collections.abc import Callable, Mapping

from alexnet_jax.devices import cluster
from alexnet_jax.signals import Stop

AHEAD = 2  # places
STOP, SAVE = "stop", "save"


class Orders:
    """Asked at every place that all processes pass in the same order: after a step, before a batch of a validation."""

    def __init__(self, stop: Stop, time_is_up: Callable[[], bool]) -> None:
        """Of one training.

        Args:
          stop: whether this process was told to stop.
          time_is_up: whether it has gone unsaved for too long, by process 0's clock.
        """
        self._stop, self._time_is_up = stop, time_is_up
        self._place, self._last_save = 0, 0
        self._told = False  # the others, that this process was told to stop

    def at_next_place(self) -> tuple[str | None, bool]:
        """The name of the signal by which all stop here, if they do; and whether all save here."""
        if cluster.count() == 1:
            return self._stop.name, self._time_is_up()
        self._place += 1
        if self._stop.name and not self._told:
            cluster.put(f"wish/{cluster.index()}", self._stop.name)
            self._told = True
        found = cluster.got("order")
        if cluster.index() == 0:  # whose own orders are for later places
            self._order(found)
        stop = found.get(STOP, "").partition(" ")
        stops = bool(stop[0]) and int(stop[0]) <= self._place
        return stop[2] if stops else None, f"{SAVE}-{self._place}" in found

    def _order(self, ordered: Mapping[str, str]) -> None:
        wishes = cluster.got("wish")
        if wishes and STOP not in ordered:
            cluster.put(f"order/{STOP}", f"{self._place + AHEAD} {wishes[min(wishes)]}")
        if self._time_is_up() and self._place > self._last_save:
            self._last_save = self._place + AHEAD
            cluster.put(f"order/{SAVE}-{self._last_save}", "")
