"""Checks that all processes have the same command, program and data, before one waits for another's devices."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from alexnet_jax.config.config import config_to_json
from alexnet_jax.config.fields import PATH_FIELDS, flatten
from alexnet_jax.data.prepared import prepare
from alexnet_jax.data.prepared.prepared_set import PreparedSet, labels_of_split
from alexnet_jax.devices import cluster

LIBRARIES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint")


def require_same_command(config: ConfigDict | None, others: Mapping[str, Any]) -> None:
    """Raises UserError, on every process, unless all have the same config, flags and program.

    Args:
      config: None for a mode without one.
      others: the values of the other flags, by name.
    """
    if cluster.count() == 1:
        return
    fields = flatten(json.loads(config_to_json(config))) if config is not None else {}
    own_disks = config is not None and not config.data.shared  # then hosts may have the data in different places
    ignored = PATH_FIELDS if own_disks else ()
    found = {f"config.{name}": json.dumps(value) for name, value in fields.items() if name not in ignored}
    found |= {f"--{name}": json.dumps(value, default=str) for name, value in others.items()}
    found |= {f"the version of {name}": metadata.version(name) for name in LIBRARIES}
    cluster.require_alike({**found, "the program's code": _digest_of_the_code()})


def open_same_data(config: ConfigDict, splits: Sequence[str]) -> PreparedSet:
    """Opens the config's prepared set; where there is none, one process prepares it for all that share its disk.

    Args:
      splits: the splits that are used.

    Raises:
      UserError: the pictures cannot be prepared, or have no such split; or, on every process, processes have
        different pictures, orders of pictures or classes.
    """
    source = cluster.one_first(config.data.shared, "prepares the pictures", lambda: prepare.open_or_prepare(config))
    for split in splits:
        source.examples(split)
    if cluster.count() > 1:
        _require_same_data(source, splits)
    return source


def _require_same_data(source: PreparedSet, splits: Sequence[str]) -> None:
    found = {"the digest of the pictures' listing": source.listing, "the size of pictures": str(source.resize)}
    found |= {f"class {label} of the data": name for label, name in enumerate(source.classes)}
    for split in splits:
        labels = hashlib.blake2b(labels_of_split(source, split).tobytes(), digest_size=8).hexdigest()
        found[f"pictures in the split '{split}'"] = str(source.examples(split))
        found[f"the digest of the labels of the split '{split}', in their order,"] = labels
    cluster.require_alike(found)


def _digest_of_the_code() -> str:
    package = Path(__file__).parents[1]
    digest = hashlib.blake2b(digest_size=8)
    for path in sorted(package.rglob("*.py")):
        digest.update(str(path.relative_to(package)).encode() + path.read_bytes())
    return digest.hexdigest()
