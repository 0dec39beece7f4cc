"""Softmax cross-entropy and the true label's rank, on logits whose classes the devices share."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int32

from alexnet_jax.devices import towers

Logits = Float[Array, "batch local"]  # this device's consecutive share of the padded classes
NAN_RANK = 1 << 28  # above every number of classes; two of them still fit in an int32


def log_probabilities(logits: Logits, classes: int, axis: str | None) -> Logits:
    """The logarithm of the softmax, of at least float32; -inf for the padding.

    Args:
      classes: how many there are without the padding.
      axis: the mesh axis that shares the classes; None if all are here.
    """
    _, _, below = _below_highest(logits, classes, axis)
    with jax.named_scope("softmax"):
        return below - jnp.log(towers.psum(jnp.exp(below).sum(axis=-1), axis))[:, None]


def cross_entropy_and_rank(
    logits: Logits, labels: Int32[Array, " batch"], classes: int, axis: str | None
) -> tuple[Float[Array, " batch"], Int32[Array, " batch"]]:
    """Each example's loss, and how many classes come before its label.

    The loss is minus the label's entry of `log_probabilities`; its two sums over the devices are written side by
    side here, and so are exchanged at once.

    Args:
      labels: of all classes.
      classes, axis: as in `log_probabilities`.

    Returns:
      The loss in nats, of at least float32, and the rank: 0 if the label scores highest. Of classes that tie with
      the label, those of lower index come before it. A NaN or +inf among an example's logits, or a label that is no
      class, gives it a rank that no top-k reaches, and a loss of NaN.
    """
    index, real, below = _below_highest(logits, classes, axis)
    is_label = index == labels[:, None]
    unlabelled = (labels < 0) | (labels >= classes)
    with jax.named_scope("softmax"):
        total = towers.psum(jnp.exp(below).sum(axis=-1), axis)
        label_score = towers.psum(jnp.where(is_label, below, 0).sum(axis=-1), axis)
        loss = jnp.where(unlabelled, jnp.nan, jnp.log(total) - label_score)
    with jax.named_scope("rank"):
        at_label = label_score[:, None]
        before = (below > at_label) | ((below == at_label) & (index < labels[:, None]))
        count = (before & real & ~is_label).sum(axis=-1, dtype=jnp.int32)
        broken = (jnp.isnan(below) & real).any(axis=-1) | unlabelled
        rank = towers.psum(jnp.where(broken, NAN_RANK, count), axis)
    return loss, lax.stop_gradient(rank)


def _below_highest(
    logits: Logits, classes: int, axis: str | None
) -> tuple[Int32[Array, "1 local"], Bool[Array, "1 local"], Logits]:
    """The number of each class here, whether it is real and no padding, and the logits less their row's highest."""
    local = logits.shape[-1]
    index = jnp.arange(local, dtype=jnp.int32)[None] + local * towers.position(axis)
    real = index < classes
    with jax.named_scope("softmax"):
        z = jnp.where(real, logits.astype(jnp.promote_types(logits.dtype, jnp.float32)), -jnp.inf)
        return index, real, z - towers.pmax(lax.stop_gradient(z.max(axis=-1)), axis)[:, None]
