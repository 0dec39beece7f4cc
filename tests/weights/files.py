"""Writes Caffe's files by Google's library, as Caffe's own tools do, and a network's text by hand."""

from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.internal import encoder

from tests.conftest import NARROW_CLASSES, NARROW_KERNELS, NARROW_UNITS

Layers = dict[str, tuple[np.ndarray, np.ndarray]]  # {name: (kernel, bias)}, maps first
V1_TYPES = {"Convolution": 4, "InnerProduct": 14, "LRN": 15, "Pooling": 17, "ReLU": 18}


def _messages() -> dict[str, Any]:
    """The classes of NetParameter and its parts, with the numbers and types of caffe.proto."""
    of = descriptor_pb2.FieldDescriptorProto
    text, message, floats, integer, long = of.TYPE_STRING, of.TYPE_MESSAGE, of.TYPE_FLOAT, of.TYPE_INT32, of.TYPE_INT64
    fields: dict[str, list[tuple[str, int, Any, str]]] = {
        "BlobShape": [("dim", 1, long, "packed")],
        "BlobProto": [
            *((name, i, integer, "") for i, name in enumerate(("num", "channels", "height", "width"), 1)),
            ("data", 5, floats, "packed"),
            ("shape", 7, message, "BlobShape"),
        ],
        "Unpacked": [("data", 5, floats, "unpacked"), ("shape", 7, message, "BlobShape")],
        "V1LayerParameter": [
            ("name", 4, text, ""),
            ("type", 5, integer, ""),
            ("blobs", 6, message, "*BlobProto"),
        ],
        "LayerParameter": [("name", 1, text, ""), ("type", 2, text, ""), ("blobs", 7, message, "*BlobProto")],
        "NetParameter": [
            ("name", 1, text, ""),
            ("layers", 2, message, "*V1LayerParameter"),
            ("layer", 100, message, "*LayerParameter"),
        ],
    }
    file = descriptor_pb2.FileDescriptorProto(name="caffe_of_tests.proto", package="of_tests", syntax="proto2")
    for name, of_message in fields.items():
        described = file.message_type.add(name=name)
        for field, number, kind, more in of_message:
            repeated = more in ("packed", "unpacked") or more.startswith("*")
            one = described.field.add(name=field, number=number, type=kind)
            one.label = of.LABEL_REPEATED if repeated else of.LABEL_OPTIONAL
            if more in ("packed", "unpacked"):
                one.options.packed = more == "packed"
            if kind == message:
                one.type_name = f".of_tests.{more.removeprefix('*')}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"of_tests.{name}")) for name in fields}


MESSAGES = _messages()


def random_layers(
    seed: int = 0, kernels: tuple[int, ...] = (), units: tuple[int, ...] = (), classes: int = 0
) -> Layers:
    """Random weights of Caffe's AlexNet at any widths; with full widths 6x6 positions remain after the last pooling."""
    k1, k2, k3, k4, k5 = kernels or NARROW_KERNELS
    u6, u7 = units or NARROW_UNITS
    shapes = {
        "conv1": (k1, 3, 11, 11),
        "conv2": (k2, k1 // 2, 5, 5),
        "conv3": (k3, k2, 3, 3),
        "conv4": (k4, k3 // 2, 3, 3),
        "conv5": (k5, k4 // 2, 3, 3),
        "fc6": (u6, k5 * (36 if kernels else 1)),
        "fc7": (u7, u6),
        "fc8": (classes or NARROW_CLASSES, u7),
    }
    rng = np.random.default_rng(seed)
    layers = {}
    for name, shape in shapes.items():
        # The scale brings maps into the hundreds, where normalisation changes them, and keeps logits small.
        scale = (0.005 if name == "fc8" else 1.5) / np.sqrt(np.prod(shape[1:]))
        layers[name] = (
            (scale * rng.standard_normal(shape)).astype(np.float32),
            rng.uniform(-0.5, 0.5, shape[0]).astype(np.float32),
        )
    return layers


def caffemodel(path: Path, layers: Layers, form: str, others: tuple[str, ...] = ()) -> Path:
    """Writes a file in the form `layers` (V1, four axes everywhere) or `layer`.

    Args:
      others: types of layers without weights that follow the first layer.
    """
    net = MESSAGES["NetParameter"](name="made for a test")
    for place, (name, blobs) in enumerate(layers.items()):
        of_type = "Convolution" if blobs[0].ndim == 4 else "InnerProduct"
        for kind in (of_type, *(others if place == 0 else ())):
            layer = getattr(net, form).add(name=name if kind == of_type else f"{kind}1")
            layer.type = V1_TYPES[kind] if form == "layers" else kind
            for array in blobs if kind == of_type else ():
                blob = layer.blobs.add()
                # As `blob.data.extend`, without a Python number for each of 61 million weights.
                blob.MergeFromString(encoder.TagBytes(5, 2) + encoder._VarintBytes(array.nbytes) + array.tobytes())
                if form == "layer":
                    blob.shape.dim.extend(array.shape)
                else:
                    blob.num, blob.channels, blob.height, blob.width = (1,) * (4 - array.ndim) + array.shape
    path.write_bytes(net.SerializeToString())
    return path


def binaryproto(path: Path, image: np.ndarray) -> Path:
    """Writes a mean image [height, width, 3] of R, G, B as Caffe's compute_image_mean does."""
    blob = MESSAGES["BlobProto"](num=1, channels=3, height=image.shape[0], width=image.shape[1])
    blob.data.extend(image[:, :, ::-1].transpose(2, 0, 1).ravel().tolist())
    path.write_bytes(blob.SerializeToString())
    return path


def prototxt(layers: Layers, side: int, first: str) -> str:
    """The text of bvlc_alexnet (first LRN) or bvlc_reference_caffenet (first Pooling), with these layers' widths."""
    lines = [f'name: "net" input: "data" input_dim: 1 input_dim: 3 input_dim: {side} input_dim: {side}']
    last = "data"

    def add(name: str, of_type: str, more: str = "") -> None:
        nonlocal last
        lines.append(f'layer {{ name: "{name}" type: "{of_type}" bottom: "{last}" top: "{name}" {more} }}')
        last = name

    geometry = {"conv1": (0, 4, 1), "conv2": (2, 1, 2), "conv3": (1, 1, 1), "conv4": (1, 1, 2), "conv5": (1, 1, 2)}
    norm, pool = "local_size: 5 alpha: 0.0001 beta: 0.75", "pool: MAX kernel_size: 3 stride: 2"
    for name, (kernel, _) in layers.items():
        if name.startswith("conv"):
            pad, stride, group = geometry[name]
            window = f"kernel_size: {kernel.shape[-1]} pad: {pad} stride: {stride} group: {group}"
            add(name, "Convolution", f"convolution_param {{ num_output: {len(kernel)} {window} }}")
        else:
            add(name, "InnerProduct", f"inner_product_param {{ num_output: {len(kernel)} }}")
        if name != "fc8":
            add(f"relu_{name}", "ReLU")
        after = ["Pooling", "LRN"] if first == "Pooling" else ["LRN", "Pooling"]
        for kind in {"conv1": after, "conv2": after, "conv5": ["Pooling"]}.get(name, []):
            parameters = f"lrn_param {{ {norm} }}" if kind == "LRN" else f"pooling_param {{ {pool} }}"
            add(f"{kind}_{name}", kind, parameters)
    add("prob", "Softmax")
    return "\n".join(lines)
