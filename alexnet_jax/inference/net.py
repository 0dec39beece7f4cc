"""A trained network ready for use: predictions, features and gradients. `alexnet_jax.load` opens it."""

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

from alexnet_jax.config.config import check_batches, config_of
from alexnet_jax.config.fields import NETWORK_FIELDS
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

CAPTURED_BYTES = 256 << 20  # the most that one batch's activations may take
TOP = 5  # classes in a prediction

One = str | os.PathLike[str] | Image.Image  # one picture; an array may hold one or several
Several = list[Any] | tuple[Any, ...]  # pictures, each as in `Given`
Prediction = list[tuple[str, float]]  # classes and their probabilities, the likeliest first


@dataclass(frozen=True, eq=False)
class Net:
    """A trained network. It resizes, crops and centres pictures as in training.

    Attributes:
      run: the run that trained it.
      step: updates done when the checkpoint was saved.
      classes: names by label; a class without a name is called by its number.
      params: {layer: {kernel, bias}}, float32, of both towers; see `AlexNet`.
      config: the run's config, with what was changed for this use.
      recipe: what the network computes.
      mesh: the devices that it computes on.
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
        """What is subtracted from each picture: float32 [resize, resize, 3], RGB from 0 to 255."""
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
        """The likeliest classes of pictures, with their probabilities (softmax).

        Args:
          pictures: one picture or several. A picture is a file's path, a PIL image, or a uint8 array, RGB
            [height, width, 3] or grey [height, width], from 0 to 255; an array [pictures, height, width, 3] is
            several. A file, or a PIL image that was just opened, is turned upright by its EXIF orientation.
          top: how many classes.
          views: 1 for the centre, or 10 for the mean softmax of ten views (section 4.1); None: the run's
            `evaluate.views`.

        Returns:
          (class name, probability) pairs, the likeliest first; among equals the lower label first. For several
          pictures a list of such lists.

        Raises:
          UserError: a picture cannot be used, or the network's output is NaN.
        """
        probabilities = self.probabilities(pictures, views)
        if probabilities.ndim == 1:
            return self.likeliest(probabilities, top)
        return [self.likeliest(row, top) for row in probabilities]

    def likeliest(self, probabilities: np.ndarray, top: int = TOP) -> Prediction:
        """The `top` classes of highest probability, the likeliest first; among equals the lower label first.

        Args:
          probabilities: float [classes].

        Raises:
          UserError: one of them is NaN or infinite.
        """
        if not np.isfinite(probabilities).all():
            raise UserError(
                f"the network of step {self.step} in {self.workdir} gives probabilities that are not numbers (NaN); "
                "use another checkpoint or run"
            )
        order = np.argsort(-probabilities, kind="stable")[:top]
        return [(self.classes[i], float(probabilities[i])) for i in order.tolist()]

    def probabilities(self, pictures: Given | Iterable[Given], views: int | None = None) -> np.ndarray:
        """The softmax: float32 [classes] for one picture, [pictures, classes] for several.

        Args, Raises: as `predict`.
        """
        listed, is_one = one_by_one(pictures)
        views = views or self.config.evaluate.views
        batches = self._read_all(listed, views, self.batch_size(len(listed)))
        parts = [part for _, part in self.probabilities_of(batches, views)]
        rows = np.concatenate([np.zeros((0, len(self.classes)), np.float32), *parts])
        return rows[0] if is_one else rows

    @overload
    def features(self, pictures: Given | Iterable[Given], layers: str) -> np.ndarray: ...
    @overload
    def features(
        self, pictures: Given | Iterable[Given], layers: list[str] | tuple[str, ...]
    ) -> dict[str, np.ndarray]: ...
    def features(
        self, pictures: Given | Iterable[Given], layers: str | list[str] | tuple[str, ...]
    ) -> np.ndarray | dict[str, np.ndarray]:
        """The activations of one or several stages, for the centre view of pictures.

        Args:
          pictures: as in `predict`.
          layers: a stage such as `conv1/sums`, `conv1/relu`, `conv1/norm` or `conv1/pool`, or several. A layer's name
            alone is its output: for `fc6` and `fc7` before dropout's factor, for `fc8` the logits.

        Returns:
          float32 [height, width, maps] or [units] for one picture, with an axis [pictures] before these for several.
          The maps or units of the first tower come before those of the second. For several stages a dict by name.

        Raises:
          UserError: a picture cannot be used, or the network has no such stage; the message lists its stages.
        """
        names = [layers] if isinstance(layers, str) else list(layers)
        listed, is_one = one_by_one(pictures)
        size = self.batch_size(len(listed), names)
        parts = [part for _, part in self.features_of(self._read_all(listed, 1, size), names)]
        found = {}
        for name, shape in self.shapes(names).items():
            rows = np.concatenate([np.zeros((0, *shape), np.float32), *(part[name] for part in parts)])
            found[name] = rows[0] if is_one else rows
        return found[layers] if isinstance(layers, str) else found

    def apply(self, params: Params, pixels: Array | np.ndarray) -> Float[Array, "*batch classes"]:
        """The logits, without dropout: a pure function, for `jax.grad`, `jax.vmap` and `jax.jit`.

        Args:
          params: as `net.params`.
          pixels: what the network sees, RGB from 0 to 255, uint8 or float: [crop, crop, 3] for one picture or
            [batch, crop, crop, 3] for several; `net.pixels` gives it. The centre of the mean image is subtracted here.

        Returns:
          [classes] or [batch, classes], computed in the run's dtype, or in float64 if the pixels are float64.

        Raises:
          ValueError: the pixels have another shape.
        """
        crop = self.config.data.crop
        if pixels.ndim not in (3, 4) or pixels.shape[-3:] != (crop, crop, 3):
            raise ValueError(
                f"pixels must be [{crop}, {crop}, 3] or a batch of these, not {list(pixels.shape)}; use net.pixels"
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
        """What the network sees: uint8 [crop, crop, 3] for one picture, [pictures, crop, crop, 3] for several.

        It is meant for `apply`. `predict` and the other methods would crop such an array once more.

        Args, Raises: as `predict`.
        """
        listed, is_one = one_by_one(pictures)
        crop, batches = self.config.data.crop, self._read_all(listed, 1, self.batch_size(len(listed)))
        parts = [some.batch.image[: len(some.names)] for some in batches]
        rows = np.concatenate([np.zeros((0, crop, crop, 3), np.uint8), *parts])
        return rows[0] if is_one else rows

    def batch_size(self, pictures: int, layers: Sequence[str] = (), mean: bool = False) -> int:
        """How many of `pictures` go to the devices at once: at most the run's `evaluate.batch_size`.

        Below that it is a power of two times the slices of the mesh, so that few programs are compiled.

        Args:
          layers, mean: the features to compute, as in `features_of`; a batch's take at most CAPTURED_BYTES.
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
        """The shape of one picture's features by stage; see `features_of`. Raises UserError for an unknown stage."""
        places = [place_of(self.recipe.architecture, name) for name in layers]
        slices, crop = self.mesh.shape[towers.DATA], self.config.data.crop
        batch = without_draws(np.zeros((slices, crop, crop, 3), np.uint8), 0)
        function = partial(activations, self.recipe, self.mesh, places, mean)
        made = jax.eval_shape(function, self.params, batch, self.mean_image)
        return {name: made[place].shape[1:] for name, place in zip(layers, places, strict=True)}

    def read(self, pictures: Sequence[Picture | Image.Image], pool: Executor, views: int, size: int) -> Iterator[Some]:
        """Batches of `size` pictures, resized and cropped to what the views need; see `decode_pool.batches`."""
        return decode_pool.batches(pictures, self.config.data, pool, views == VIEWS, size)

    def probabilities_of(self, batches: Iterable[Some], views: int) -> Iterator[tuple[Some, np.ndarray]]:
        """Each batch, of centres or for ten views of whole squares, with its softmax, float32 [pictures, classes]."""
        function = partial(class_probabilities, self.recipe, self.mesh, views)
        for some, rows in self._computed(("probabilities", views), function, batches):
            yield some, rows[: len(some.names), : len(self.classes)]

    def features_of(
        self, batches: Iterable[Some], layers: Sequence[str], mean: bool = False
    ) -> Iterator[tuple[Some, dict[str, np.ndarray]]]:
        """Each batch of centres with its features by stage, float32 [pictures, ...].

        Args:
          layers: see `features`; raises UserError for an unknown stage.
          mean: whether maps are averaged over their positions.
        """
        places = {name: place_of(self.recipe.architecture, name) for name in layers}
        wanted = tuple(sorted(set(places.values())))
        function = partial(activations, self.recipe, self.mesh, wanted, mean)
        for some, made in self._computed(("features", wanted, mean), function, batches):
            yield some, {name: made[place][: len(some.names)] for name, place in places.items()}

    def digest(self) -> str:
        """A digest of the parameters and the mean image: two networks with the same digest compute the same."""
        digest = hashlib.blake2b(self.mean_image.tobytes(), digest_size=16)
        for name, layer in sorted(jax.device_get(self.params).items()):
            for kind in sorted(layer):
                digest.update(f"{name}/{kind} {layer[kind].shape}".encode())
                digest.update(layer[kind].tobytes())
        return digest.hexdigest()

    def _read_all(self, pictures: Sequence[Picture | Image.Image], views: int, size: int) -> Iterator[Some]:
        """As `read`, decoded by threads. Raises UserError at the first picture that cannot be used."""
        with ThreadPoolExecutor(worker_processes.cores()) as pool:
            for some in self.read(pictures, pool, views, size):
                for name, reason in some.rejected:
                    raise UserError(f"{name} cannot be used: {reason}")
                yield some

    def _computed(
        self, key: tuple[object, ...], function: Callable[..., object], batches: Iterable[Some]
    ) -> Iterator[tuple[Some, Any]]:
        """Each batch with the function's result on the host. The function is compiled once for each key and shape."""
        if key not in self._programs:
            options = towers.compiler_options(self.mesh, self.recipe.dtype)
            self._programs[key] = jax.jit(function, compiler_options=options)
        program, mean_image = self._programs[key], towers.replicate(self.mean_image, self.mesh)
        return towers.one_ahead(
            lambda some: program(self.params, towers.put_batch(some.batch, self.mesh), mean_image), batches
        )


def warn_of_mirrored_views(run: Run, views: int) -> None:
    """Warns if ten views are used, half of them mirrored, though the run's training mirrored no picture."""
    if views == VIEWS and not run.config["augment"]["reflections"]:
        say("half of the ten views are mirrored, but the run was trained without reflections: expect more errors")


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
    require_same_config(config, run, NETWORK_FIELDS, done)
    mesh = mesh or towers.make_mesh(config.mesh.data, config.mesh.model, config.model.towers)
    check_batches(config, mesh.shape[towers.DATA])
    recipe = own_recipe(run)
    step, params = restore_params(run, mesh, config.evaluate.checkpoint)
    classes = _names_of_classes(run, recipe.architecture.classes)
    return Net(run, step, classes, params, config, recipe, mesh)


def on_own_device(run: Run, mesh: Mesh) -> Net:
    """The network that many processes have trained on the mesh, on this process's first device. All must call it."""
    net = net_of_run(run, None, "used", mesh)
    own = towers.mesh_of(jax.local_devices()[:1], 1, 1)
    return replace(net, params=towers.replicate(towers.on_host(net.params), own), mesh=own)


def _names_of_classes(run: Run, count: int) -> tuple[str, ...]:
    """The names of the network's classes; a class without a name is called by its number, and a message says so."""
    if len(run.classes) < count:
        say(
            f"{run.workdir} has names for {len(run.classes)} of its {count} classes: the other classes are called by "
            "their numbers"
        )
    return (*run.classes[:count], *map(str, range(len(run.classes), count)))


def load(workdir: str | os.PathLike[str], checkpoint: str, mesh: Mesh | None) -> Net:
    """See `alexnet_jax.load`."""
    if checkpoint not in ("best", "newest"):
        raise UserError(f"checkpoint is '{checkpoint}' and must be best or newest")
    run = open_run(Path(workdir).expanduser().absolute())
    config = config_of(run.config)
    config.evaluate.checkpoint = checkpoint
    return net_of_run(run, config, "loaded", mesh or towers.mesh_of(jax.devices()[:1], 1, 1))
