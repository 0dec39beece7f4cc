"""TensorFlow and its datasets, imported quietly and without any accelerator; only from here."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before its import, or its start-up notices are printed
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # likewise, and no network runs in TensorFlow here
# Without Keras, which nothing here uses and takes a third of the import: with this, TensorFlow looks for tf_keras, an
# older Keras, and does without where that is not installed. Taken back below: whoever asks for tf.keras gets it.
_given = os.environ.get("TF_USE_LEGACY_KERAS")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import tensorflow as tf
import tensorflow_datasets as tfds

if _given is None:
    del os.environ["TF_USE_LEGACY_KERAS"]
tf.config.set_visible_devices([], "GPU")
tfds.disable_progress_bar()  # ours says how far it is

__all__ = ["tf", "tfds"]
