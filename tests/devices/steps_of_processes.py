"""Ten steps of training in one of several processes; process 0 writes the losses and parameters to a file.

python -m tests.devices.steps_of_processes FILE full|narrow DATA MODEL [HOST:PORT PROCESSES PROCESS]
"""

import sys

import jax
import numpy as np

from alexnet_jax.devices import cluster, launchers, towers
from alexnet_jax.modes import communication
from alexnet_jax.training.collectives import predict
from alexnet_jax.training.optimizer import Schedule
from alexnet_jax.training.step import Recipe, compiled_steps, create_state
from alexnet_jax.training.xla_text import collectives_in
from tests.conftest import NARROW, random_batch


def main() -> None:
    """Trains, and writes the file."""
    path, size, data, model, *place = sys.argv[1:]
    if place:
        given = launchers.of_flags(place[0], int(place[1]), int(place[2]))
        assert given is not None
        cluster.join(given)
    mesh = towers.make_mesh(int(data), int(model))
    as_sent = Recipe(NARROW) if size == "narrow" else Recipe()  # the prediction is for float32
    lowered = communication.lowered_step(as_sent, mesh, 16, 256 if size == "full" else 72)
    sent = sum(one.bytes for one in collectives_in(str(lowered.compile().as_text())))
    predicted = sum(one.bytes for one in predict(as_sent.architecture, mesh, 16, "float32"))
    if size == "narrow":
        jax.config.update("jax_enable_x64", True)
        recipe, batch_size, resize = Recipe(NARROW, dtype="float64", schedule=Schedule("steps", boundaries=(5,))), 8, 72
    else:
        recipe, batch_size, resize = as_sent, 16, 256
    update, _ = compiled_steps(recipe, mesh)
    state, losses = create_state(recipe, mesh), []
    mean = towers.replicate(np.full((resize, resize, 3), 120, recipe.dtype), mesh)
    rows, net = towers.rows(mesh, batch_size), recipe.architecture
    for step in range(10):
        whole = random_batch(batch_size, net.classes, net.input_size, resize, seed=step % 3)
        batch = towers.put_batch(jax.tree.map(lambda x: x[rows], whole), mesh)
        state, metrics = update(state, batch, mean)
        losses.append(float(metrics["loss"]))
    params = towers.on_host(state.params)
    if cluster.index() == 0:
        named = {f"{name}/{kind}": x for name, layer in params.items() for kind, x in layer.items()}
        sizes = np.array([sent, predicted, rows.stop - rows.start])
        np.savez(path, losses=np.array(losses), sizes=sizes, **named)
    cluster.end()


if __name__ == "__main__":
    main()
