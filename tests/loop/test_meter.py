"""The meter's means of the steps' numbers, and how often it reads them from the devices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from alexnet_jax.loop.meter import Meter, NotFinite

LOSSES, ERRORS = (2.5, 0.5, 4.0), (0.75, 0.25, 0.5)  # exact in float32


def metrics(loss: float, error: float, rate: float = 0.25) -> dict[str, jax.Array]:
    return {"loss": jnp.float32(loss), "top1_error": jnp.float32(error), "learning_rate": jnp.float32(rate)}


def test_means_are_those_since_the_last_report() -> None:
    meter = Meter(batch_size=8)
    for step, (loss, error) in enumerate(zip(LOSSES, ERRORS, strict=True), start=1):
        meter.add(step, metrics(loss, error))
    means, images_per_second = meter.take()
    assert means == {"loss": np.mean(LOSSES), "top1_error": np.mean(ERRORS)}
    assert meter.learning_rate == 0.25
    assert images_per_second > 0
    meter.add(4, metrics(8.0, 1.0))
    assert meter.take()[0] == {"loss": 8.0, "top1_error": 1.0}


def test_a_short_batch_counts_for_what_it_holds() -> None:
    meter = Meter(batch_size=8, seen=[[1.0, 0.5, 8]])
    meter.add(2, {**metrics(2.5, 0.75), "examples": jnp.int32(8)})
    meter.add(3, {**metrics(4.5, 0.0), "examples": jnp.int32(2)})
    assert meter.seen() == [[1.0, 0.5, 8], [2.5, 0.75, 8], [4.5, 0.0, 2]]
    assert Meter(batch_size=8, seen=meter.seen()).seen() == meter.seen()
    means, _ = meter.take()
    assert means["loss"] == pytest.approx((8 * 1.0 + 8 * 2.5 + 2 * 4.5) / 18)
    assert means["top1_error"] == pytest.approx((8 * 0.5 + 8 * 0.75) / 18)


def test_a_step_is_read_once_and_while_the_next_one_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    device_get = jax.device_get

    def counted(tree: Any) -> Any:
        read.append(set(tree))
        return device_get(tree)

    monkeypatch.setattr(jax, "device_get", counted)
    meter = Meter(batch_size=8)
    for step in (1, 2, 3):
        meter.add(step, metrics(1.0, 0.5))
        assert len(read) == step - 1
    meter.take()
    assert read == [{"loss", "top1_error", "learning_rate"}] * 3


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_at_its_step(loss: float) -> None:
    meter = Meter(batch_size=8)
    meter.add(7, metrics(loss, 0.5))
    with pytest.raises(NotFinite, match=f"the loss of step 7 is {loss}"):
        meter.add(8, metrics(1.0, 0.5))
