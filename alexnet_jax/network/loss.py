"""Softmax cross-entropy and the true label's rank, on logits whose classes the devices share."""

import jax
import jax.numpy as jnp
from jax import lax

from alexnet_jax.devices import towers

NAN_RANK = 1 << 28  # above every number of classes; two of them still fit in an int32


def log_probabilities(logits: jax.Array, classes: int, axis: str | None) -> jax.Array:
    """The logarithm of the softmax, [b, local] of at least float32; -inf for the padding.

    Args:
      logits, classes, axis: as in `cross_entropy_and_rank`.
    """
    local = logits.shape[-1]
    index = jnp.arange(local, dtype=jnp.int32) + local * towers.position(axis)
    with jax.named_scope("softmax"):
        z = jnp.where(index < classes, logits.astype(jnp.promote_types(logits.dtype, jnp.float32)), -jnp.inf)
        shifted = z - towers.pmax(z.max(axis=-1), axis)[:, None]
        return shifted - jnp.log(towers.psum(jnp.exp(shifted).sum(axis=-1), axis))[:, None]


def cross_entropy_and_rank(
    logits: jax.Array, labels: jax.Array, classes: int, axis: str | None
) -> tuple[jax.Array, jax.Array]:
    """Each example's loss, and how many classes come before its label.

    Args:
      logits: [b, local], this device's consecutive share of the padded classes.
      labels: int32 [b], of all classes.
      classes: how many there are without the padding.
      axis: the mesh axis that shares the classes; None if all are here.

    Returns:
      loss [b], in nats, of at least float32, and rank int32 [b]: 0 if the label scores highest.
      Of classes that tie with the label, those of lower index come before it. A NaN or +inf among an
      example's logits, or a label that is no class, gives it a rank that no top-k reaches, and a loss of NaN.
    """
    local = logits.shape[-1]
    index = jnp.arange(local, dtype=jnp.int32) + local * towers.position(axis)
    is_label = index == labels[:, None]
    real = index < classes
    unlabelled = (labels < 0) | (labels >= classes)
    with jax.named_scope("softmax"):
        z = jnp.where(real, logits.astype(jnp.promote_types(logits.dtype, jnp.float32)), -jnp.inf)
        highest = towers.pmax(lax.stop_gradient(z.max(axis=-1)), axis)
        shifted = z - highest[:, None]
        total = towers.psum(jnp.exp(shifted).sum(axis=-1), axis)
        label_score = towers.psum(jnp.where(is_label, shifted, 0).sum(axis=-1), axis)
        loss = jnp.where(unlabelled, jnp.nan, jnp.log(total) - label_score)
    with jax.named_scope("rank"):
        label_logit = label_score[:, None]
        before = (shifted > label_logit) | ((shifted == label_logit) & (index < labels[:, None]))
        count = (before & real & ~is_label).sum(axis=-1, dtype=jnp.int32)
        broken = (jnp.isnan(shifted) & real).any(axis=-1) | unlabelled
        rank = towers.psum(jnp.where(broken, NAN_RANK, count), axis)
    return loss, lax.stop_gradient(rank)
