"""The network as Flax modules: init and apply for an Architecture.

The same module runs both towers on one device, as two arrays side by side, or one tower on each of two
devices. Parameters have the whole network's shapes at initialisation, and those of the device's half
inside `towers.on_each_device`.
"""

import math
from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Int32, Key

from alexnet_jax.devices import towers
from alexnet_jax.network import ops
from alexnet_jax.network.architecture import (
    LRN,
    Architecture,
    Conv,
    Dense,
    Dropout,
    Local,
    MaxPool,
    Operation,
    ReLU,
    Tanh,
    WithinMapNorm,
)
from alexnet_jax.network.max_pool import max_pool
from alexnet_jax.network.stages import Stage, stages

Params = Mapping[str, Mapping[str, Array]]  # {layer: {kernel, bias}}
# An array for each tower on this device, maps or units: what a layer reads, and what it computes.
Parts = list[Float[Array, "batch *positions maps"]]
Made = list[Float[Array, "batch *made outputs"]]


def _normal(stddev: float) -> nn.initializers.Initializer:
    def draw(
        key: Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32, out_sharding: None = None
    ) -> Float[Array, "..."]:
        # Equals jax.random.normal(key, shape); drawn as a matrix it compiles six times faster.
        return stddev * jax.random.normal(key, (math.prod(shape[:-1]), shape[-1]), dtype).reshape(shape)

    return draw


def _uniform(bound: float) -> nn.initializers.Initializer:
    def draw(
        key: Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32, out_sharding: None = None
    ) -> Float[Array, "..."]:
        return jax.random.uniform(key, tuple(shape), dtype, -bound, bound)

    return draw


def _of_whole_numbers(draw: nn.initializers.Initializer) -> nn.initializers.Initializer:
    """Makes the shape's numbers Python's: Flax gives a locally connected layer's shape with NumPy's."""
    return lambda key, shape, *rest, **named: draw(key, tuple(map(int, shape)), *rest, **named)


class Layer(nn.Module):
    """A convolution or dense layer: weights, bias, and the gather of a cross connection.

    Attributes:
      layer: its description.
      local_towers: the number of towers on this device.
      outputs: the number of kernels or units on this device.
      axis: the mesh axis over which the towers are divided; None if this device has all of them.
      dtype: the type of the computation; parameters are float32 at least.
      logits: whether this is the last layer, whose sums have the parameters' type.
    """

    layer: Conv | Dense
    local_towers: int
    outputs: int
    axis: str | None
    dtype: DTypeLike
    logits: bool = False

    @nn.compact
    def __call__(self, parts: Parts) -> Made:
        """The layer's sums with its bias, for each tower on this device.

        Args:
          parts: for each tower on this device what it has, or one picture that all read; [b, h, w, maps] or
            [b, units].
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
        inputs = (*window, parts[0].shape[-1])
        start_kernel, start_bias = _normal(layer.stddev), nn.initializers.constant(layer.bias)
        if layer.by_fan_in:
            start_kernel = start_bias = _uniform(1 / math.sqrt(math.prod(inputs)))
        kernel = self.param("kernel", start_kernel, (*inputs, self.outputs), param_dtype)
        bias = self.param("bias", start_bias, (self.outputs,), param_dtype)
        # A product for each tower: the gradient of a grouped convolution is many times slower on a CPU.
        kernels = jnp.split(kernel.astype(self.dtype), len(parts), axis=-1)
        if isinstance(layer, Dense):
            out = param_dtype if self.logits else self.dtype
            sums = [jnp.matmul(part, k, preferred_element_type=out) for part, k in zip(parts, kernels, strict=True)]
        else:
            sums = [ops.convolve(part, k, layer.stride, layer.padding) for part, k in zip(parts, kernels, strict=True)]
        if len(sums) < self.local_towers:
            sums = jnp.split(sums[0], self.local_towers, axis=-1)
        biases = jnp.split(bias.astype(sums[0].dtype), self.local_towers)
        return [
            ops.gradient_once(y + b.reshape((1,) * (y.ndim - 1) + b.shape)) for y, b in zip(sums, biases, strict=True)
        ]


class AlexNet(nn.Module):
    """The network of an Architecture.

    Attributes:
      architecture: its description.
      shards: the number of devices that share the towers, 1 or 2.
      axis: the mesh axis of these devices; None for one device.
      dtype: the type of activations and products.
    """

    architecture: Architecture
    shards: int = 1
    axis: str | None = None
    dtype: DTypeLike = jnp.float32

    def __call__(
        self,
        pictures: Float[Array, "batch size size 3"],
        examples: Int32[Array, " batch"] | None = None,
        key: Key[Array, ""] | None = None,
    ) -> Float[Array, "batch local_classes"]:
        """The logits of centred pictures, for this device's share of the padded classes.

        Args:
          pictures: see `ops.centre`.
          examples: each picture's place in the global batch; None at test.
          key: the step's random key; None at test. Dropout's masks depend on the key, the layer, the
            tower and the example, not on the devices.
        """
        every = stages(self.architecture)
        return jnp.concatenate(self.through(every, [pictures.astype(self.dtype)], examples, key), axis=-1)

    @nn.compact
    def through(
        self,
        some: Sequence[Stage],
        parts: Parts,
        examples: Int32[Array, " batch"] | None = None,
        key: Key[Array, ""] | None = None,
    ) -> Made:
        """The output of consecutive stages of the network, from the output of the stage before them.

        Args:
          some: a slice of `stages(architecture)`. Stages before the dense layers take pictures of any size.
          parts: an array for each tower on this device, [b, h, w, maps] or [b, units]; before the first stage one
            picture that all read.
          examples, key: as in `__call__`; needed if the stages have a dropout.

        Returns:
          An array for each tower on this device. A layer that reads both towers puts them together itself.
        """
        for stage in some:
            if stage.operation is None:
                layer = stage.layer
                parts = self._local(layer, parts) if isinstance(layer, Local) else self._layer(layer)(parts)
            elif isinstance(stage.operation, Dropout):
                parts = self._dropout(stage, stage.operation, parts, examples, key)
            elif isinstance(stage.operation, LRN) and stage.operation.across_towers:
                parts = self._norm_across_towers(stage, stage.operation, parts)
            else:
                parts = [_apply(stage.operation, x) for x in parts]
            if isinstance(stage.operation, ReLU):
                # The units that are zero on the whole batch; kept only if the caller asks for them.
                dead = [(x <= 0).all(axis=tuple(range(x.ndim - 1))) for x in parts]
                self.sow("dead_units", stage.name, jnp.concatenate(dead).mean())
        return parts

    def _layer(self, layer: Conv | Dense) -> "Layer":
        net = self.architecture
        is_last = layer is net.layers[-1]
        outputs = layer.kernels if isinstance(layer, Conv) else net.padded_classes if is_last else layer.units
        towers_here = max(1, net.towers // self.shards)
        return Layer(layer, towers_here, outputs // self.shards, self.axis, self.dtype, is_last, name=layer.name)

    def _local(self, layer: Local, parts: Parts) -> Made:
        """A locally connected layer; its network has one tower."""
        (x,) = parts
        local = nn.ConvLocal(
            layer.kernels,
            (layer.size, layer.size),
            layer.stride,
            [layer.padding] * 2,
            kernel_init=_of_whole_numbers(_normal(layer.stddev)),
            bias_init=nn.initializers.constant(layer.bias),
            dtype=self.dtype,
            param_dtype=jnp.promote_types(self.dtype, jnp.float32),
            name=layer.name,
        )
        return [ops.gradient_once(local(x))]

    def _norm_across_towers(self, stage: Stage, lrn: LRN, parts: Parts) -> Parts:
        """Response normalisation over all maps; the other device sends the maps that the window reaches."""
        if self.axis is None:
            return jnp.split(ops.local_response_norm(jnp.concatenate(parts, axis=-1), lrn), len(parts), axis=-1)
        (x,) = parts
        with jax.named_scope(stage.layer.name):
            before, after = towers.neighbouring_maps(x, lrn.n // 2, self.axis)
        normalised = ops.local_response_norm(jnp.concatenate([before, x, after], axis=-1), lrn)
        return [normalised[..., before.shape[-1] : before.shape[-1] + x.shape[-1]]]

    def _dropout(
        self,
        stage: Stage,
        dropout: Dropout,
        parts: Parts,
        examples: Int32[Array, " batch"] | None,
        key: Key[Array, ""] | None,
    ) -> Parts:
        if key is None:
            return [ops.dropout(x, dropout.rate, None, dropout.rescales) for x in parts]
        layer_key = jax.random.fold_in(key, self.architecture.layers.index(stage.layer))
        first = towers.position(self.axis) * len(parts)
        dropped = []
        for i, x in enumerate(parts):
            tower_key = jax.random.fold_in(layer_key, first + i)
            keys = jax.vmap(lambda example, tower_key=tower_key: jax.random.fold_in(tower_key, example))(examples)
            dropped.append(ops.dropout(x, dropout.rate, keys, dropout.rescales))
        return dropped


def _apply(operation: Operation, x: Float[Array, "batch *positions maps"]) -> Float[Array, "batch *outputs maps"]:
    match operation:
        case ReLU():
            return nn.relu(x)
        case Tanh():
            return jnp.tanh(x)
        case LRN():
            return ops.local_response_norm(x, operation)
        case WithinMapNorm():
            return ops.within_map_norm(x, operation)
        case MaxPool():
            return max_pool(x, operation.window, operation.stride, operation.rounding, operation.ties)
    raise TypeError(f"{operation} is no operation on one tower's array")
