"""The network as Flax modules: an Architecture becomes init and apply.

The same module runs both towers on one device, as two groups side by side, or one of them on each
of two devices. Parameters have the shape of the whole network where it is initialised, and of the
device's half inside `towers.on_each_device`.
"""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from alexnet_jax import ops, towers
from alexnet_jax.architecture import LRN, Architecture, Conv, Dense, Dropout, MaxPool, ReLU, Tanh, WithinMapNorm

Dtype = Any


def _normal(stddev: float) -> nn.initializers.Initializer:
    def draw(key: jax.Array, shape: Sequence[int], dtype: Dtype = jnp.float32, out_sharding: Any = None) -> jax.Array:
        # The numbers of jax.random.normal(key, shape), which as a matrix compile six times faster.
        return stddev * jax.random.normal(key, (math.prod(shape[:-1]), shape[-1]), dtype).reshape(shape)

    return draw


class Layer(nn.Module):
    """One convolution or dense layer: weights, bias, the gather of a cross connection.

    Attributes:
      layer: what it is.
      local_towers: towers on this device.
      outputs: kernels or units on this device.
      axis: the mesh axis that divides the towers; None where they are all here.
      dtype: of the computation; parameters are of at least float32.
      logits: whether this is the last layer, whose sums stay in the parameters' type.
    """

    layer: Conv | Dense
    local_towers: int
    outputs: int
    axis: str | None
    dtype: Dtype
    logits: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """X [b, h, w, maps] or [b, units] of this device's towers -> the layer's, with its bias."""
        layer = self.layer
        if layer.reads == "both":
            x = towers.all_gather(x, self.axis)
        groups = self.local_towers if layer.reads == "own" else 1
        parts = jnp.split(x, groups, axis=-1)
        if isinstance(layer, Dense):
            parts = [part.reshape(part.shape[0], -1) for part in parts]
            window: tuple[int, ...] = ()
        else:
            window = (layer.size, layer.size)
        param_dtype = jnp.promote_types(self.dtype, jnp.float32)
        constant = nn.initializers.constant(layer.bias)
        kernel = self.param("kernel", _normal(layer.stddev), (*window, parts[0].shape[-1], self.outputs), param_dtype)
        bias = self.param("bias", constant, (self.outputs,), param_dtype)
        # Two dense products: a grouped convolution's gradient is many times slower on CPU.
        kernels = jnp.split(kernel.astype(self.dtype), groups, axis=-1)
        if isinstance(layer, Dense):
            out = param_dtype if self.logits else self.dtype
            sums = [jnp.matmul(part, k, preferred_element_type=out) for part, k in zip(parts, kernels, strict=True)]
        else:
            sums = [ops.convolve(part, k, layer.stride, layer.padding) for part, k in zip(parts, kernels, strict=True)]
        y = jnp.concatenate(sums, axis=-1)
        return y + bias.astype(y.dtype)


class AlexNet(nn.Module):
    """The network of an Architecture.

    Attributes:
      architecture: what it is.
      shards: how many devices share the towers, 1 or 2.
      axis: the mesh axis that they lie along; None for one device.
      dtype: of activations and products.
    """

    architecture: Architecture
    shards: int = 1
    axis: str | None = None
    dtype: Dtype = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, examples: jax.Array | None = None, key: jax.Array | None = None) -> jax.Array:
        """The logits [b, padded classes on this device] of centred pictures x [b, size, size, 3].

        Args:
          x: float, see `ops.centre`.
          examples: int32 [b], each one's place in the global batch; in training.
          key: the step's random key; None at test. Dropout's masks depend on it, the layer, the
            tower and the example, and not on the devices.
        """
        net = self.architecture
        local_towers = max(1, net.towers // self.shards)
        x = x.astype(self.dtype)
        for place, layer in enumerate(net.layers):
            last = layer is net.layers[-1]
            outputs = layer.kernels if isinstance(layer, Conv) else net.padded_classes if last else layer.units
            x = Layer(layer, local_towers, outputs // self.shards, self.axis, self.dtype, last, name=layer.name)(x)
            for step in layer.then:
                match step:
                    case ReLU():
                        x = nn.relu(x)
                        # Kept only where asked for: the units that are zero on the whole batch.
                        self.sow("dead_units", f"{layer.name}_relu", (x <= 0).all(axis=tuple(range(x.ndim - 1))).mean())
                    case Tanh():
                        x = jnp.tanh(x)
                    case LRN():
                        x = ops.local_response_norm(x, step, local_towers)
                    case WithinMapNorm():
                        x = ops.within_map_norm(x, step)
                    case MaxPool():
                        x = ops.max_pool(x, step.window, step.stride, step.rounding)
                    case Dropout():
                        x = self._dropout(x, step.rate, place, local_towers, examples, key)
        return x

    def _dropout(
        self, x: jax.Array, rate: float, place: int, local_towers: int, examples: jax.Array | None, key: Any
    ) -> jax.Array:
        if key is None:
            return ops.dropout(x, rate, None)
        layer_key = jax.random.fold_in(key, place)
        first = towers.position(self.axis) * local_towers
        dropped = []
        for i, part in enumerate(jnp.split(x, local_towers, axis=-1)):
            tower_key = jax.random.fold_in(layer_key, first + i)
            keys = jax.vmap(lambda example, tower_key=tower_key: jax.random.fold_in(tower_key, example))(examples)
            dropped.append(ops.dropout(part, rate, keys))
        return jnp.concatenate(dropped, axis=-1)
