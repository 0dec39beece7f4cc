"""Any set that TFDS knows, as TFDS has prepared it. Nothing is downloaded."""

from ml_collections import ConfigDict

from alexnet_jax.data.sources.source import Files, Kind, Source, root
from alexnet_jax.messages import UserError


def open_tfds_set(data: ConfigDict) -> Source:
    """The set, by `config.data.name`. Raises UserError if TFDS does not know it or has not prepared it."""
    from alexnet_jax.data.sources import tfds_builder

    tfds_builder.class_names(data)  # refuses a set that is not for classification, before anybody prepares it
    if not tfds_builder.is_prepared(data):
        raise UserError(
            f"'{data.name}' is not prepared in {root(data)}, and nothing is downloaded here; where there is a "
            f"network, run `tfds build {data.name} --data_dir=DIR` and give --config.data.data_dir=DIR"
        )
    return tfds_builder.open_prepared(data)


def _class_names(data: ConfigDict) -> tuple[str, ...]:
    from alexnet_jax.data.sources import tfds_builder

    return tfds_builder.class_names(data)


def _files(data: ConfigDict) -> Files | None:
    from alexnet_jax.data.sources import tfds_builder

    return tfds_builder.prepared_files(data)


KIND = Kind("", open_tfds_set, _class_names, _files, known_classes={"cifar10": 10})
