"""A trained network ready for use: what it makes of pictures, on any mesh. `alexnet_jax.load` opens one.

It stands among the runs, above the network and the data and below figures and modes, which all use it.
"""

import hashlib
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float
from ml_collections import ConfigDict
from PIL import Image

from alexnet_jax.config.config import OF_THE_NETWORK, check_batches, config_of
from alexnet_jax.data import centre_offset
from alexnet_jax.data.batches.batch import without_draws
from alexnet_jax.data.decode import worker_processes
from alexnet_jax.data.decode.squares import Picture
from alexnet_jax.devices import towers
from alexnet_jax.inference import decode_pool
from alexnet_jax.inference.decode_pool import Some
from alexnet_jax.inference.inputs import Given, one_by_one
from alexnet_jax.messages import UserError, say
from alexnet_jax.network.model import AlexNet, Params
from alexnet_jax.network.stages import place_of
from alexnet_jax.network.views import VIEWS
from alexnet_jax.runs.folder import Run, open_run, own_recipe, require_same_config, restore_params
from alexnet_jax.training.activations import activations
from alexnet_jax.training.step import Recipe, centred, class_probabilities

CAPTURED_BYTES = 256 << 20  # of a batch's activations, at most
TOP = 5  # classes of a prediction

One = str | os.PathLike[str] | Image.Image  # an array may hold one or several
Several = list[Any] | tuple[Any, ...]  # each as in `Given`
Prediction = list[tuple[str, float]]  # the likeliest classes and their probabilities, the likeliest first


@dataclass(frozen=True, eq=False)
class Net:
    """A trained network. Pictures become what it was trained on: resized, cropped and centred as there.

    Attributes:
      run: what the run's folder holds beside checkpoints.
      step: of the checkpoint, updates done.
      classes: names, by number; numbers where the run has no names.
      params: {layer: {kernel, bias}}, float32, of the whole network; see `AlexNet`.
      config: the run's, with what was changed for this use.
      recipe: what the network computes.
      mesh: of the devices that it computes on.
    """

    run: Run = field(repr=False)
    step: int
    classes: tuple[str, ...] = field(repr=False)
    params: Params = field(repr=False)
    config: ConfigDict = field(repr=False)
    recipe: Recipe = field(repr=False)
    mesh: Mesh
    _programs: dict[tuple[object, ...], jax.stages.Wrapped] = field(default_factory=dict, repr=False)

    @property
    def workdir(self) -> Path:
        """The run's folder."""
        return self.run.workdir

    @property
    def mean_image(self) -> np.ndarray:
        """float32 [resize, resize, 3], RGB from 0 to 255: what is subtracted from each picture."""
        return self.run.statistics.mean_image

    @overload
    def predict(self, pictures: One, top: int = TOP, views: int | None = None) -> Prediction: ...
    @overload
    def predict(self, pictures: Several, top: int = TOP, views: int | None = None) -> list[Prediction]: ...
    @overload
    def predict(self, pictures: np.ndarray | jax.Array, top: int = TOP, views: int | None = None) -> Any: ...
    def predict(
        self, pictures: Given | Iterable[Given], top: int = TOP, views: int | None = None
    ) -> Prediction | list[Prediction]:
        """The likeliest classes of each picture, with their probabilities; of classes that tie, the first comes first.

        Args:
          pictures: one or several: paths of files, PIL images, or arrays of uint8, [height, width, 3] in RGB or
            [height, width] in grey; [pictures, height, width, 3] are several. A PIL image that was just opened is
            turned upright as a file is; any other is taken as it is.
          top: how many classes.
          views: 1, the centre, or 10 with their softmax averaged; None: as the run's `evaluate.views`.

        Returns:
          (name, probability) pairs, the likeliest first; of several pictures a list of such lists.

        Raises:
          UserError: a picture cannot be used, or the network gives no numbers.
        """
        probabilities = self.probabilities(pictures, views)
        if probabilities.ndim == 1:
            return self.likeliest(probabilities, top)
        return [self.likeliest(row, top) for row in probabilities]

    def likeliest(self, probabilities: np.ndarray, top: int = TOP) -> Prediction:
        """The classes of highest probability, the first of those that tie first, from [classes]. Raises UserError."""
        if not np.isfinite(probabilities).all():
            raise UserError(
                f"the network of step {self.step} in {self.workdir} gives probabilities that are no numbers (NaN); "
                "take another checkpoint or run"
            )
        order = np.argsort(-probabilities, kind="stable")[:top]
        return [(self.classes[i], float(probabilities[i])) for i in order.tolist()]

    def probabilities(self, pictures: Given | Iterable[Given], views: int | None = None) -> np.ndarray:
        """The softmax, float32 [classes] of one picture, [pictures, classes] of several.

        Args, Raises: as `predict`.
        """
        listed, is_one = one_by_one(pictures)
        views = views or self.config.evaluate.views
        batches = self._all(listed, views, self.batch_size(len(listed)))
        rows = [row for _, row in self.probabilities_of(batches, views)]
        whole = np.concatenate(rows) if rows else np.zeros((0, len(self.classes)), np.float32)
        return whole[0] if is_one else whole

    @overload
    def features(self, pictures: Given | Iterable[Given], layers: str) -> np.ndarray: ...
    @overload
    def features(
        self, pictures: Given | Iterable[Given], layers: list[str] | tuple[str, ...]
    ) -> dict[str, np.ndarray]: ...
    def features(
        self, pictures: Given | Iterable[Given], layers: str | list[str] | tuple[str, ...]
    ) -> np.ndarray | dict[str, np.ndarray]:
        """What stages make of the centre view of pictures.

        Args:
          pictures: as in `predict`.
          layers: a stage, or several: `conv1/sums`, `conv1/relu`, `conv1/norm`, `conv1/pool` and so on; a layer alone
            is what it hands on, `fc6` and `fc7` before dropout's factor and `fc8` the logits.

        Returns:
          float32 [height, width, maps] or [units] of one picture, with [pictures] before it of several; first the first
          tower's maps or units, then the second's. Of several stages a dict by their names.

        Raises:
          UserError: a picture cannot be used, or there is no such stage; the message lists those that there are.
        """
        names = [layers] if isinstance(layers, str) else list(layers)
        listed, is_one = one_by_one(pictures)
        size = self.batch_size(len(listed), names)
        parts = [part for _, part in self.features_of(self._all(listed, 1, size), names)]
        shapes = self.shapes(names)
        made = {}
        for name in names:
            none = np.zeros((0, *shapes[name]), np.float32)
            whole = np.concatenate([none, *(part[name] for part in parts)])
            made[name] = whole[0] if is_one else whole
        return made[layers] if isinstance(layers, str) else made

    def apply(self, params: Params, pixels: Array | np.ndarray) -> Float[Array, "*batch classes"]:
        """The logits of pixels: a pure function, for `jax.grad`, `jax.vmap` and `jax.jit`.

        Args:
          params: as `net.params`.
          pixels: RGB from 0 to 255 of what the network sees, a float or uint8 array [crop, crop, 3] of one picture or
            [batch, crop, crop, 3] of several, not centred: the mean image is subtracted here, under the centre.

        Returns:
          [classes] or [batch, classes], without dropout; computed in the run's type, or in float64 where the pixels
          are of that.

        Raises:
          ValueError: the pixels are of another shape; `net.pixels` gives the right ones of any picture.
        """
        crop = self.config.data.crop
        if pixels.ndim not in (3, 4) or pixels.shape[-3:] != (crop, crop, 3):
            raise ValueError(
                f"pixels are [{crop}, {crop}, 3] or several of these, not {list(pixels.shape)}; net.pixels gives them"
            )
        net = AlexNet(self.recipe.architecture, dtype=self.recipe.dtype)
        mean = jnp.asarray(self.mean_image)
        if pixels.dtype == jnp.float64:
            net, mean = net.clone(dtype=jnp.float64), mean.astype(jnp.float64)
        several = pixels[None] if pixels.ndim == 3 else pixels
        batch = without_draws(several, centre_offset(self.config.data.resize, self.config.data.crop))
        logits = net.apply({"params": params}, centred(self.recipe, jax.tree.map(jnp.asarray, batch), mean))
        assert isinstance(logits, Array)
        real = logits[:, : len(self.classes)]
        return real[0] if pixels.ndim == 3 else real

    def pixels(self, pictures: Given | Iterable[Given]) -> np.ndarray:
        """What the network sees of a picture, uint8 [crop, crop, 3], or of several.

        `apply` takes it. To `predict` and the others an array is a picture as any other: they would crop it again.

        Args, Raises: as `predict`.
        """
        listed, is_one = one_by_one(pictures)
        parts = [some.batch.image[: len(some.names)] for some in self._all(listed, 1, self.batch_size(len(listed)))]
        crop = self.config.data.crop
        whole = np.concatenate([np.zeros((0, crop, crop, 3), np.uint8), *parts])
        return whole[0] if is_one else whole

    def batch_size(self, pictures: int, layers: Sequence[str] = (), mean: bool = False) -> int:
        """How many of so many pictures go to the devices at once: a power of two, or the run's `evaluate.batch_size`.

        Args:
          layers, mean: what is kept of each picture; less than CAPTURED_BYTES of a batch.
        """
        slices = self.mesh.shape[towers.DATA]
        most = self.config.evaluate.batch_size
        if layers:
            a_picture = sum(4 * math.prod(shape) for shape in self.shapes(layers, mean).values())
            most = max(slices, min(most, CAPTURED_BYTES // a_picture) // slices * slices)
        size = slices
        while size < min(pictures, most):
            size *= 2
        return min(size, most)

    def shapes(self, layers: Sequence[str], mean: bool = False) -> dict[str, tuple[int, ...]]:
        """Of what `features_of` gives for one picture, by stage. Raises UserError if there is no such stage."""
        places = [place_of(self.recipe.architecture, name) for name in layers]
        slices, crop = self.mesh.shape[towers.DATA], self.config.data.crop
        batch = without_draws(np.zeros((slices, crop, crop, 3), np.uint8), 0)
        function = partial(activations, self.recipe, self.mesh, places, mean)
        made = jax.eval_shape(function, self.params, batch, self.mean_image)
        return {name: made[place].shape[1:] for name, place in zip(layers, places, strict=True)}

    def read(self, pictures: Sequence[Picture | Image.Image], pool: Executor, views: int, size: int) -> Iterator[Some]:
        """Pictures as the network is to see them; see `decode_pool.batches`."""
        return decode_pool.batches(pictures, self.config.data, pool, views == VIEWS, size)

    def probabilities_of(self, batches: Iterable[Some], views: int) -> Iterator[tuple[Some, np.ndarray]]:
        """float32 [pictures, classes] of each; the devices work on one while the one before is made use of."""
        function = partial(class_probabilities, self.recipe, self.mesh, views)
        for some, rows in self._run(self._program(("probabilities", views), function), batches):
            yield some, rows[: len(some.names), : len(self.classes)]

    def features_of(
        self, batches: Iterable[Some], layers: Sequence[str], mean: bool = False
    ) -> Iterator[tuple[Some, dict[str, np.ndarray]]]:
        """float32 [pictures, ...] of each, by stage; see `features`.

        Args:
          batches: of centre views.
          mean: over positions, of what has any.

        Raises:
          UserError: there is no such stage.
        """
        places = {name: place_of(self.recipe.architecture, name) for name in layers}
        wanted = tuple(sorted(set(places.values())))
        function = partial(activations, self.recipe, self.mesh, wanted, mean)
        for some, made in self._run(self._program(("features", wanted, mean), function), batches):
            yield some, {name: made[place][: len(some.names)] for name, place in places.items()}

    def digest(self) -> str:
        """Of the parameters and of what is subtracted: two networks that have the same compute the same."""
        digest = hashlib.blake2b(self.mean_image.tobytes(), digest_size=16)
        for name, layer in sorted(jax.device_get(self.params).items()):
            for kind in sorted(layer):
                digest.update(f"{name}/{kind} {layer[kind].shape}".encode())
                digest.update(layer[kind].tobytes())
        return digest.hexdigest()

    def _all(self, pictures: Sequence[Picture | Image.Image], views: int, size: int) -> Iterator[Some]:
        """All pictures, decoded by threads. Raises UserError at the first that cannot be used."""
        with ThreadPoolExecutor(worker_processes.cores()) as pool:
            for some in self.read(pictures, pool, views, size):
                for name, reason in some.rejected:
                    raise UserError(f"{name} cannot be used: {reason}")
                yield some

    def _program(self, key: tuple[object, ...], function: Callable[..., object]) -> jax.stages.Wrapped:
        if key not in self._programs:
            options = towers.compiler_options(self.mesh, self.recipe.dtype)
            self._programs[key] = jax.jit(function, compiler_options=options)
        return self._programs[key]

    def _run(self, program: jax.stages.Wrapped, batches: Iterable[Some]) -> Iterator[tuple[Some, Any]]:
        """Each batch with the program's output, on the host."""
        mean_image = towers.replicate(self.mean_image, self.mesh)
        return towers.one_ahead(
            lambda some: program(self.params, towers.put_batch(some.batch, self.mesh), mean_image), batches
        )


def say_of_mirrors(config: ConfigDict, trained: ConfigDict) -> None:
    """Says so where views are mirrored that were not in training, as of signs that mean something else then."""
    if config.evaluate.views == VIEWS and not trained.augment.reflections:
        say("half of the ten views are mirrored, and the run was trained without reflections: expect more errors")


def open_net(workdir: Path, config: ConfigDict | None, done: str) -> Net:
    """Opens a run, and its trained network; see `net_of_run`. Raises UserError also if there is no run."""
    return net_of_run(open_run(workdir), config, done)


def net_of_run(run: Run, config: ConfigDict | None, done: str, mesh: Mesh | None = None) -> Net:
    """The trained network of a run.

    Args:
      config: the run's own with other values (`evaluate`, `mesh`, where data lies); None: the run's own.
      done: what is to be done with the network, for the sentence "cannot be evaluated".
      mesh: of devices; None: as the config has it.

    Raises:
      UserError: no checkpoint can be read, or the config is of another network.
    """
    config = config_of(run.config) if config is None else config
    require_same_config(config, run, OF_THE_NETWORK, done)
    mesh = mesh or towers.make_mesh(config.mesh.data, config.mesh.model, config.model.towers)
    check_batches(config, mesh.shape[towers.DATA])
    recipe = own_recipe(run)
    step, params = restore_params(run, recipe, mesh, config.evaluate.checkpoint)
    classes = _named(run, recipe.architecture.classes)
    return Net(run, step, classes, params, config, recipe, mesh)


def on_own_device(run: Run, mesh: Mesh) -> Net:
    """The network that many processes have trained on the mesh, on this process's first device. All must call it."""
    net = net_of_run(run, None, "used", mesh)
    own = towers.mesh_of(jax.local_devices()[:1], 1, 1)
    return replace(net, params=towers.replicate(towers.on_host(net.params), own), mesh=own)


def _named(run: Run, count: int) -> tuple[str, ...]:
    if len(run.classes) < count:
        say(f"{run.workdir} has names of {len(run.classes)} of its {count} classes: the others are numbers")
    return (*run.classes[:count], *map(str, range(len(run.classes), count)))


def load(workdir: str | os.PathLike[str], checkpoint: str, mesh: Mesh | None) -> Net:
    """See `alexnet_jax.load`."""
    if checkpoint not in ("best", "newest"):
        raise UserError(f"checkpoint is '{checkpoint}' and must be best or newest")
    run = open_run(Path(workdir).expanduser().absolute())
    config = config_of(run.config)
    config.evaluate.checkpoint = checkpoint
    return net_of_run(run, config, "loaded", mesh or towers.mesh_of(jax.devices()[:1], 1, 1))
