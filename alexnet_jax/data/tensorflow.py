"""Imports TensorFlow and TensorFlow Datasets, quietly and without accelerators; others import them from here."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # before the import, or start-up notices are printed
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # likewise; no network runs in TensorFlow here
# Keras takes a third of the import, and nothing here uses it. With this, TensorFlow looks for tf_keras, an older Keras,
# and does without it if it is not installed. It is undone below, so tf.keras still works for others.
_given = os.environ.get("TF_USE_LEGACY_KERAS")
os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")

import tensorflow as tf
import tensorflow_datasets as tfds

if _given is None:
    del os.environ["TF_USE_LEGACY_KERAS"]
tf.config.set_visible_devices([], "GPU")
tfds.disable_progress_bar()  # messages.py has its own

__all__ = ["tf", "tfds"]
