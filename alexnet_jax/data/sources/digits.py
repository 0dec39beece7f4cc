"""The digits that come with scikit-learn."""

from ml_collections import ConfigDict

from alexnet_jax.data.sources.source import Files, Kind, Source


def open_digits(data: ConfigDict) -> Source:
    """The 1,797 digits, 8x8 pixels; the first call writes them as a set of TFDS. Raises UserError."""
    from alexnet_jax.data.sources import tfds_builder

    if not tfds_builder.is_prepared(data):
        tfds_builder.build_digits(data)
    return tfds_builder.open_prepared(data)


def _class_names(_: ConfigDict) -> tuple[str, ...]:
    return tuple("0123456789")


def _files(data: ConfigDict) -> Files | None:
    from alexnet_jax.data.sources import tfds_builder

    return tfds_builder.prepared_files(data)


KIND = Kind("digits", open_digits, _class_names, _files, known_classes={"digits": 10}, is_written_when_listed=True)
