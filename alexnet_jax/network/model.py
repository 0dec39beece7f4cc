"""The network as Flax modules: an Architecture becomes init and apply.

The same module runs both towers on one device, as two arrays side by side, or one of them on each
of two devices. Parameters have the shape of the whole network where it is initialised, and of the
device's half inside `towers.on_each_device`.
"""

import math
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from alexnet_jax.devices import towers
from alexnet_jax.network import ops
from alexnet_jax.network.architecture import LRN, Architecture, Conv, Dense, Dropout, MaxPool, ReLU, Tanh, WithinMapNorm

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
    def __call__(self, parts: list[jax.Array]) -> list[jax.Array]:
        """What each of this device's towers has, or the one picture that all read -> the layer's, with its bias.

        Arrays [b, h, w, maps] or [b, units], one for each tower.
        """
        layer = self.layer
        if layer.reads == "both":
            parts = [towers.all_gather(jnp.concatenate(parts, axis=-1), self.axis)]
        if isinstance(layer, Dense):
            parts = [part.reshape(part.shape[0], -1) for part in parts]
            window: tuple[int, ...] = ()
        else:
            window = (layer.size, layer.size)
        param_dtype = jnp.promote_types(self.dtype, jnp.float32)
        constant = nn.initializers.constant(layer.bias)
        kernel = self.param("kernel", _normal(layer.stddev), (*window, parts[0].shape[-1], self.outputs), param_dtype)
        bias = self.param("bias", constant, (self.outputs,), param_dtype)
        # A dense product for each tower, or one for both: a grouped one's gradient is many times slower on CPU.
        kernels = jnp.split(kernel.astype(self.dtype), len(parts), axis=-1)
        if isinstance(layer, Dense):
            out = param_dtype if self.logits else self.dtype
            sums = [jnp.matmul(part, k, preferred_element_type=out) for part, k in zip(parts, kernels, strict=True)]
        else:
            sums = [ops.convolve(part, k, layer.stride, layer.padding) for part, k in zip(parts, kernels, strict=True)]
        if len(sums) < self.local_towers:
            sums = jnp.split(sums[0], self.local_towers, axis=-1)
        biases = jnp.split(bias.astype(sums[0].dtype), self.local_towers)
        return [ops.gradient_once(y + b) for y, b in zip(sums, biases, strict=True)]


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

    def setup(self) -> None:
        """The layers, each by its name."""
        net = self.architecture
        local_towers = max(1, net.towers // self.shards)
        for layer in net.layers:
            last = layer is net.layers[-1]
            outputs = layer.kernels if isinstance(layer, Conv) else net.padded_classes if last else layer.units
            setattr(self, layer.name, Layer(layer, local_towers, outputs // self.shards, self.axis, self.dtype, last))

    def __call__(self, x: jax.Array, examples: jax.Array | None = None, key: jax.Array | None = None) -> jax.Array:
        """The logits [b, padded classes on this device] of centred pictures x [b, size, size, 3].

        Args:
          x: float, see `ops.centre`.
          examples: int32 [b], each one's place in the global batch; in training.
          key: the step's random key; None at test. Dropout's masks depend on it, the layer, the
            tower and the example, and not on the devices.
        """
        return self.classify(self.later_maps(self.first_maps(x)), examples, key)

    def first_maps(self, x: jax.Array) -> list[jax.Array]:
        """The first layer's maps of pictures of any size, before they are pooled; [b, h, w, maps] of each tower."""
        layer = self.architecture.layers[0]
        parts = getattr(self, layer.name)([x.astype(self.dtype)])
        return self._follow(parts, layer.name, layer.then[: _before_pooling(layer)])

    def later_maps(self, parts: list[jax.Array]) -> list[jax.Array]:
        """What `first_maps` made, through pooling and all other convolutions; [b, h, w, maps] of each tower."""
        first = self.architecture.layers[0]
        parts = self._follow(parts, first.name, first.then[_before_pooling(first) :])
        for layer in self.architecture.layers[1:]:
            if isinstance(layer, Conv):
                # Each tower's maps are an array of their own, put together only where a layer reads both.
                parts = self._follow(getattr(self, layer.name)(parts), layer.name, layer.then)
        return parts

    def classify(
        self, parts: list[jax.Array], examples: jax.Array | None = None, key: jax.Array | None = None
    ) -> jax.Array:
        """The logits of what `later_maps` made; arguments as there are in all."""
        for place, layer in enumerate(self.architecture.layers):
            if isinstance(layer, Dense):
                parts = self._follow(getattr(self, layer.name)(parts), layer.name, layer.then, place, examples, key)
        return jnp.concatenate(parts, axis=-1)

    def _follow(
        self,
        parts: list[jax.Array],
        name: str,
        then: Sequence[Any],
        place: int = 0,
        examples: jax.Array | None = None,
        key: jax.Array | None = None,
    ) -> list[jax.Array]:
        """What comes after a layer's sums, on each of this device's towers."""
        for step in then:
            match step:
                case ReLU():
                    parts = [nn.relu(x) for x in parts]
                    # Kept only where asked for: the units that are zero on the whole batch.
                    dead = [(x <= 0).all(axis=tuple(range(x.ndim - 1))) for x in parts]
                    self.sow("dead_units", f"{name}_relu", jnp.concatenate(dead).mean())
                case Tanh():
                    parts = [jnp.tanh(x) for x in parts]
                case LRN():
                    parts = [ops.local_response_norm(x, step) for x in parts]
                case WithinMapNorm():
                    parts = [ops.within_map_norm(x, step) for x in parts]
                case MaxPool():
                    parts = [ops.max_pool(x, step.window, step.stride, step.rounding) for x in parts]
                case Dropout():
                    parts = self._dropout(parts, step.rate, place, examples, key)
        return parts

    def _dropout(
        self, parts: list[jax.Array], rate: float, place: int, examples: jax.Array | None, key: Any
    ) -> list[jax.Array]:
        if key is None:
            return [ops.dropout(x, rate, None) for x in parts]
        layer_key = jax.random.fold_in(key, place)
        first = towers.position(self.axis) * len(parts)
        dropped = []
        for i, x in enumerate(parts):
            tower_key = jax.random.fold_in(layer_key, first + i)
            keys = jax.vmap(lambda example, tower_key=tower_key: jax.random.fold_in(tower_key, example))(examples)
            dropped.append(ops.dropout(x, rate, keys))
        return dropped


def _before_pooling(layer: Conv | Dense) -> int:
    """How many of the steps after a layer work position by position."""
    return next((i for i, step in enumerate(layer.then) if isinstance(step, MaxPool)), len(layer.then))
