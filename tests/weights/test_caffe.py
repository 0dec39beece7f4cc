"""Caffe's files in both forms, as Google's library writes and reads them; and damaged files."""

import resource
from pathlib import Path

import numpy as np
import pytest

from alexnet_jax.messages import UserError
from alexnet_jax.weights import caffe_format, caffe_import, protobuf
from alexnet_jax.weights.caffe_settings import Settings, difference
from tests.weights.files import MESSAGES, binaryproto, caffemodel, random_layers


@pytest.mark.parametrize("form", ["layers", "layer"])
def test_both_forms_are_read_to_the_bit(tmp_path: Path, form: str) -> None:
    layers = random_layers()
    model = caffe_import.read_caffemodel(caffemodel(tmp_path / "net.caffemodel", layers, form))
    assert [layer.name for layer in model.layers] == list(layers)
    for layer in model.layers:
        kernel, bias = layers[layer.name]
        assert np.array_equal(layer.kernel, kernel) and layer.kernel.shape == kernel.shape
        assert np.array_equal(layer.bias, bias)


@pytest.mark.parametrize("form", ["layers", "layer"])
@pytest.mark.parametrize("order", [("LRN", "Pooling"), ("ReLU", "Pooling", "LRN"), ("Pooling",), ()])
def test_the_order_of_the_layers_names_the_network(tmp_path: Path, form: str, order: tuple[str, ...]) -> None:
    file = caffemodel(tmp_path / "net.caffemodel", random_layers(), form, order)
    expected = next(kind for kind in order if kind != "ReLU") if len(order) > 1 else ""
    assert caffe_import.read_caffemodel(file).first == expected


def test_a_mean_image_is_turned_to_rgb(tmp_path: Path) -> None:
    image = np.random.default_rng(0).uniform(0, 255, (5, 4, 3)).astype(np.float32)
    assert np.array_equal(caffe_import.read_mean(binaryproto(tmp_path / "mean.binaryproto", image)), image)


def test_numbers_without_packing_are_read_as_those_with() -> None:
    numbers = np.random.default_rng(1).standard_normal(10_000).astype(np.float32)
    unpacked = MESSAGES["Unpacked"]()
    unpacked.data.extend(numbers.tolist())
    unpacked.shape.dim.extend([100, 100])
    message = unpacked.SerializeToString()
    assert len(message) > 5 * len(numbers)
    assert np.array_equal(caffe_import._blob(memoryview(message)), numbers.reshape(100, 100))
    # Between other fields, one at a time: a tag, then the four bytes.
    mixed = b"".join(b"\x2d" + x.tobytes() + b"\x08\x01" for x in numbers[:3]) + b"\x10\x01\x18\x01\x20\x03"
    assert np.array_equal(caffe_import._blob(memoryview(mixed)), numbers[:3].reshape(1, 1, 1, 3))


def test_a_million_numbers_without_packing_are_one_field() -> None:
    numbers = np.random.default_rng(1).standard_normal(1_000_000).astype("<f4")
    rows = np.concatenate([np.full((len(numbers), 1), 5 << 3 | 5, np.uint8), numbers.view(np.uint8).reshape(-1, 4)], 1)
    found = list(protobuf.fields(memoryview(rows.tobytes() + b"\x08\x01")))
    assert [number for number, *_ in found] == [5, 1]
    assert bytes(found[0][2]) == numbers.tobytes()


def test_what_is_written_is_what_google_reads() -> None:
    blob = {"shape": {"dim": [2, 300, 70_000]}, "data": b"\0\0\x80\x3f"}
    layer = {"name": "conv1", "type": "Convolution", "blobs": [blob]}
    net = MESSAGES["NetParameter"].FromString(caffe_format.encode("net", {"layer": layer}))
    assert (net.layer[0].name, net.layer[0].type) == ("conv1", "Convolution")
    assert list(net.layer[0].blobs[0].shape.dim) == [2, 300, 70_000]
    assert list(net.layer[0].blobs[0].data) == [1.0]


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    small = {"conv1": (np.ones((2, 1, 2, 2), np.float32), np.ones(2, np.float32))}
    for form in ("layers", "layer"):
        whole = caffemodel(tmp_path / "net.caffemodel", small, form).read_bytes()
        assert caffe_import.read_caffemodel(tmp_path / "net.caffemodel").layers
        for length in range(len(whole)):
            (tmp_path / "cut").write_bytes(whole[:length])
            with pytest.raises(UserError, match="--weights="):
                caffe_import.read_caffemodel(tmp_path / "cut")


def test_bytes_of_all_kinds_are_refused_in_a_sentence(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    path = tmp_path / "net.caffemodel"
    for length in (1, 10, 100, 1000):
        for _ in range(50):
            path.write_bytes(rng.bytes(length))
            with pytest.raises(UserError, match="--weights="):
                caffe_import.read_caffemodel(path)
    small = {"conv1": (np.ones((2, 1, 2, 2), np.float32), np.ones(2, np.float32))}
    whole = bytearray(caffemodel(path, small, "layer").read_bytes())
    for place in range(len(whole)):
        for bit in range(8):
            whole[place] ^= 1 << bit
            path.write_bytes(whole)
            try:
                caffe_import.read_caffemodel(path)  # a changed weight or name cannot be noticed
            except UserError as error:
                assert str(path) in str(error)
            whole[place] ^= 1 << bit


@pytest.mark.parametrize("old", [False, True])
def test_a_blob_that_claims_two_to_the_forty_numbers_takes_no_memory(tmp_path: Path, old: bool) -> None:
    net = MESSAGES["NetParameter"]()
    blob = net.layer.add(name="conv1", type="Convolution").blobs.add()
    blob.data.extend([1.0, 2.0])
    if old:
        blob.num, blob.channels, blob.height, blob.width = 2**20, 2**20, 1, 1
    else:
        blob.shape.dim.extend([2**20, 2**20])
    (tmp_path / "net.caffemodel").write_bytes(net.SerializeToString())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match=r"'conv1'.*holds 2 numbers instead of 1099511627776"):
        caffe_import.read_caffemodel(tmp_path / "net.caffemodel")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_lengths_beyond_the_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.caffemodel"
    path.write_bytes(b"\xa2\x06\xff\xff\xff\xff\xff\x1f" + b"\0" * 20)  # field 100 of 2^40 bytes or so
    with pytest.raises(UserError, match="claims 1099511627775 bytes and 20 are left"):
        caffe_import.read_caffemodel(path)
    path.write_bytes(b"\xa2\x06" + b"\xff" * 20)
    with pytest.raises(UserError, match="more than 64 bits"):
        caffe_import.read_caffemodel(path)


@pytest.mark.parametrize("shape", [(3, 4), (1, 4, 2, 2), (2, 3, 2, 2)])
def test_a_mean_that_is_no_picture_is_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    blob = MESSAGES["BlobProto"]()
    blob.shape.dim.extend(shape)
    blob.data.extend(np.zeros(np.prod(shape)).tolist())
    (tmp_path / "mean").write_bytes(blob.SerializeToString())
    with pytest.raises(UserError, match="not an image of 3 colours"):
        caffe_import.read_mean(tmp_path / "mean")
    with pytest.raises(UserError, match="cannot be read"):
        caffe_import.read_mean(tmp_path / "absent")


@pytest.mark.parametrize("v1", [False, True])
def test_settings_are_read_from_both_forms(tmp_path: Path, v1: bool) -> None:
    text = {  # { pad: 2 stride: 4 }, { alpha: 1e-4 }, { stride: 2 }
        "Convolution": (10, 106, b"\x18\x02\x30\x04", {"pad": 2, "stride": 4}),
        "LRN": (
            18,
            118,
            b"\x15\x17\xb7\xd1\x38",
            {"alpha": 1e-4},
        ),
        "Pooling": (19, 121, b"\x18\x02", {"stride": 2}),
    }
    types = {"Convolution": 4, "LRN": 15, "Pooling": 17}
    net = b""
    for kind, (old, new, message, _) in text.items():
        layer = protobuf.encode_field(4 if v1 else 1, kind.lower())
        layer += protobuf.encode_field(5, types[kind]) if v1 else protobuf.encode_field(2, kind)
        net += protobuf.encode_field(2 if v1 else 100, layer + protobuf.encode_field(old if v1 else new, message))
    found = [layer.settings for layer in caffe_import._layers(memoryview(net))]
    for settings, (kind, (*_, numbers)) in zip(found, text.items(), strict=True):
        assert settings and (settings.name, settings.type) == (kind.lower(), kind)
        assert settings.numbers == pytest.approx(numbers)


def test_the_first_setting_that_differs_is_named_with_both_values() -> None:
    def conv(pad: float) -> Settings:
        return Settings("conv2", "Convolution", {"pad": pad, "stride": 1})

    pool, norm = Settings("pool1", "Pooling", {"stride": 2}), Settings("norm1", "LRN", {"k": 1})
    ours = (conv(2), norm, pool)
    fewer = Settings("conv2", "Convolution", {"stride": 1})
    for agreeing in ((), ours, (conv(2),), (norm, pool), (norm,), (fewer, norm, pool)):  # some leave settings out
        assert difference(agreeing, ours) is None
    assert difference((conv(0),), ours) == (
        "its conv2 (Convolution pad 0, stride 1) is here conv2 (Convolution pad 2, stride 1)"
    )
    assert difference((conv(2), pool, norm), ours) == "its pool1 (Pooling stride 2) is here norm1 (LRN k 1)"
    assert difference((pool,), (pool, norm)) == "it has no layer like norm1 (LRN k 1)"
    assert difference((norm, pool, norm), ours) == "it has an additional layer, norm1 (LRN k 1)"
    two = Settings("norm1", "LRN", {"k": 2})
    assert difference((two, pool), (Settings("norm1", "LRN", {}), pool)) == "its norm1 (LRN k 2) is here norm1 (LRN )"
