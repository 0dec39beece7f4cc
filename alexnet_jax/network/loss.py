"""Softmax cross-entropy and the true label's rank, from logits whose classes are divided over devices."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int32

from alexnet_jax.devices import towers

Logits = Float[Array, "batch local"]  # this device's consecutive share of the padded classes
NAN_RANK = 1 << 28  # above every number of classes; twice this still fits in an int32


def log_probabilities(logits: Logits, classes: int, axis: str | None) -> Logits:
    """The logarithm of the softmax, in float32 at least; -inf for the padding.

    Args:
      classes: the number of classes without the padding.
      axis: the mesh axis over which the classes are divided; None if this device has all of them.
    """
    _, _, below = _below_highest(logits, classes, axis)
    with jax.named_scope("softmax"):
        return below - jnp.log(towers.psum(jnp.exp(below).sum(axis=-1), axis))[:, None]


def cross_entropy_and_rank(
    logits: Logits, labels: Int32[Array, " batch"], classes: int, axis: str | None
) -> tuple[Float[Array, " batch"], Int32[Array, " batch"]]:
    """Each example's loss, and the number of classes that come before its label.

    The loss is minus the label's entry in `log_probabilities`. It is computed anew here with its two sums over the
    devices side by side, so that one exchange does for both.

    Args:
      labels: numbers among all classes, not among this device's.
      classes, axis: as in `log_probabilities`.

    Returns:
      The loss in nats, in float32 at least, and the rank, which is 0 if the label scores highest. Among classes that
      tie with the label, those with a lower index come before it. An example with NaN or +inf among its logits, or
      with a label that is no class, has a loss of NaN and a rank that no top-k reaches.
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
    """For each class on this device its number and whether it is real, not padding; and the logits less the highest."""
    local = logits.shape[-1]
    index = jnp.arange(local, dtype=jnp.int32)[None] + local * towers.position(axis)
    real = index < classes
    with jax.named_scope("softmax"):
        z = jnp.where(real, logits.astype(jnp.promote_types(logits.dtype, jnp.float32)), -jnp.inf)
        return index, real, z - towers.pmax(lax.stop_gradient(z.max(axis=-1)), axis)[:, None]
