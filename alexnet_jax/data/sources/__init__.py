"""Where pictures come from: TFDS sets, the official tars, tars of synsets, folders, the digits.

Every source yields its encoded pictures in an order of its own that never changes, with label and
file name. Nothing is decoded here.
"""

from ml_collections import ConfigDict

from alexnet_jax.data.sources.folder import open_folder
from alexnet_jax.data.sources.imagenet import open_imagenet
from alexnet_jax.data.sources.source import Source, Split, has_own_splits, manual_dir, root
from alexnet_jax.data.sources.synset_tars import open_synset_tars
from alexnet_jax.data.sources.tfds_set import builder_of, keys_and_classes, open_tfds_set

__all__ = ["Source", "Split", "class_names", "has_own_splits", "open_source", "root"]


def open_source(data: ConfigDict) -> Source:
    """The source of the config. Raises UserError if its files are not there or not as they should be."""
    if data.name == "folder":
        return open_folder(manual_dir(data), data.validation_fraction)
    if data.name == "synset_tars":
        return open_synset_tars(manual_dir(data), data.validation_fraction)
    builder = builder_of(data)
    if data.name == "imagenet2012" and not builder.is_prepared():
        return open_imagenet(data, builder)
    return open_tfds_set(data, builder)


def class_names(data: ConfigDict) -> tuple[str, ...]:
    """The dataset's classes, which are known before it is prepared. Raises UserError as `open_source`."""
    if data.name in ("folder", "synset_tars"):
        return open_source(data).classes
    return keys_and_classes(data.name, builder_of(data))[2]
