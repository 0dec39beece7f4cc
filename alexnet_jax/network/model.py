"""The network as Flax modules: an Architecture becomes init and apply.

The same module runs both towers on one device, as two arrays side by side, or one of them on each
of two devices. Parameters have the shape of the whole network where it is initialised, and of the
device's half inside `towers.on_each_device`.
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
# Of each tower on this device, maps or units: what a layer reads, and what it makes of them.
Parts = list[Float[Array, "batch *positions maps"]]
Made = list[Float[Array, "batch *made outputs"]]


def _normal(stddev: float) -> nn.initializers.Initializer:
    def draw(
        key: Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32, out_sharding: None = None
    ) -> Float[Array, "..."]:
        # The numbers of jax.random.normal(key, shape), which as a matrix compile six times faster.
        return stddev * jax.random.normal(key, (math.prod(shape[:-1]), shape[-1]), dtype).reshape(shape)

    return draw


def _uniform(bound: float) -> nn.initializers.Initializer:
    def draw(
        key: Array, shape: Sequence[int], dtype: DTypeLike = jnp.float32, out_sharding: None = None
    ) -> Float[Array, "..."]:
        return jax.random.uniform(key, tuple(shape), dtype, -bound, bound)

    return draw


def _of_whole_numbers(draw: nn.initializers.Initializer) -> nn.initializers.Initializer:
    """Takes a shape with NumPy's numbers in it, which Flax gives a locally connected layer's."""
    return lambda key, shape, *rest, **named: draw(key, tuple(map(int, shape)), *rest, **named)


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
    dtype: DTypeLike
    logits: bool = False

    @nn.compact
    def __call__(self, parts: Parts) -> Made:
        """The layer's sums, with its bias, on each of this device's towers.

        Args:
          parts: what each of the towers has, or the one picture that all read; [b, h, w, maps] or [b, units].
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
        return [
            ops.gradient_once(y + b.reshape((1,) * (y.ndim - 1) + b.shape)) for y, b in zip(sums, biases, strict=True)
        ]


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
          examples: each one's place in the global batch; in training.
          key: the step's random key; None at test. Dropout's masks depend on it, the layer, the
            tower and the example, and not on the devices.
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
        """What consecutive stages of the network make of what the stage before them hands on.

        Args:
          some: a slice of `stages(architecture)`. The first stages, before anything is pooled to a fixed size, take
            pictures of any size.
          parts: an array for each of this device's towers, [b, h, w, maps] or [b, units]; before the first stage
            the one picture that all read.
          examples, key: as in `__call__`, where there is a dropout among the stages.

        Returns:
          An array for each of this device's towers; they are put together only where a layer reads both.
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
                # Kept only where asked for: the units that are zero on the whole batch.
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
        """A locally connected layer, in networks of one tower."""
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
        """Response normalisation over all maps; of the other device's, those that the window reaches are sent."""
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
