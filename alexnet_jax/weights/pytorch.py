"""PyTorch's files: a state dict, as `.pth` or in safetensors form.

Layers are called as in torchvision's `alexnet` (`features.0.weight`, ...) or as here (`conv1.weight`, ...). PyTorch
itself is needed for `.pth` alone.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from alexnet_jax.messages import UserError
from alexnet_jax.network.architecture import Architecture, Conv, Dense, Dropout, alexnet
from alexnet_jax.weights.axis_order import MapsFirstLayer

TORCHVISION = tuple(f"features.{i}" for i in (0, 3, 6, 8, 10)) + tuple(f"classifier.{i}" for i in (1, 4, 6))
STATE_DICTS = ("model", "state_dict")  # where torchvision's own and other training scripts keep it in a checkpoint


def read_state_dict(path: Path, names: Sequence[str]) -> list[MapsFirstLayer]:
    """The layers of a `.safetensors` or a `.pth` file, in the network's order.

    Args:
      names: what the network's layers are called here, in their order.

    Raises:
      UserError: the file cannot be read, would run code, or is none; it needs PyTorch, which is not installed.
    """
    arrays = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    arrays = {name.removeprefix("module."): array for name, array in arrays.items()}  # of a net on many GPUs
    there = dict.fromkeys(name.rpartition(".")[0] for name in arrays)
    order = [name for name in (*TORCHVISION, *names) if name in there]
    order += [name for name in there if name not in order]
    wanted = [f"{name}.{kind}" for name in order for kind in ("weight", "bias")]
    odd = [name for name in (*wanted, *arrays) if name not in arrays or name not in wanted]
    if odd:
        what = f"has {odd[0]}" if odd[0] in arrays else f"has no {odd[0]}"
        raise UserError(
            f"--weights={path} is of another network: it {what}, and here each layer has a weight and a bias; name "
            "a file of AlexNet's"
        )
    for name in wanted:
        if arrays[name].dtype.kind != "f" and arrays[name].dtype.name != "bfloat16":
            raise UserError(f"--weights={path}: its {name} is of {arrays[name].dtype}; give it as real numbers")
    return [MapsFirstLayer(name, arrays[f"{name}.weight"], arrays[f"{name}.bias"]) for name in order]


def _safetensors(path: Path) -> Mapping[str, np.ndarray]:
    try:
        return load_file(path)
    except OSError as error:
        raise UserError(f"--weights={path} cannot be read ({error.strerror or error}); name a .safetensors") from error
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"--weights={path} is no complete .safetensors ({error}); get the file again") from error


def _pickled(path: Path) -> Mapping[str, np.ndarray]:
    """By PyTorch's loader, which builds tensors and dicts and calls nothing else."""
    if not path.is_file():
        raise UserError(f"--weights={path} is no file; name a .pth or a .safetensors")
    with open(path, "rb") as file:
        if not file.read(4).startswith((b"PK", b"\x80")):  # a zip, as torch.save writes, or a pickle
            raise UserError(f"--weights={path} is no .pth by what is in it; name one, or give its own --format")
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"--weights={path} is read by PyTorch, which is not installed; install it with "
            "`pip install 'alexnet_jax[torch]'`, or give the weights as .safetensors, which needs none"
        ) from error
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the loader lets through whatever its unpickler and its archive raise
        sentence = str(error).strip().partition("\n")[0]
        raise UserError(
            f"--weights={path} is not read: it is damaged, or holds more than tensors and would run code ({sentence}); "
            "give a file that holds a state dict alone"
        ) from error
    for key in STATE_DICTS:
        found = found[key] if isinstance(found, dict) and isinstance(found.get(key), dict) else found
    if not isinstance(found, dict) or not all(isinstance(value, torch.Tensor) for value in found.values()):
        raise UserError(f"--weights={path} holds no state dict; save one with torch.save(model.state_dict(), FILE)")
    return {
        str(name): (value.detach().float() if value.is_floating_point() else value).numpy()
        for name, value in found.items()
    }


def state_dict(net: Architecture, layers: Sequence[MapsFirstLayer]) -> dict[str, np.ndarray]:
    """The tensors by the names that PyTorch's module has: torchvision's where the network is its, else the layers'."""
    names = TORCHVISION if is_torchvisions(net) else [layer.name for layer in layers]
    return {
        f"{name}.{kind}": array
        for name, layer in zip(names, layers, strict=True)
        for kind, array in (("weight", layer.kernel), ("bias", layer.bias))
    }


def is_torchvisions(net: Architecture) -> bool:
    """Whether the network, of whatever widths, computes what `torchvision.models.alexnet` does at test."""
    theirs = alexnet(towers=1, first_padding=(2, 2), norm=(), dropout=Dropout(rescales=True))
    return net.towers == 1 and [_at_test(layer) for layer in net.layers] == [_at_test(layer) for layer in theirs.layers]


def _at_test(layer: Conv | Dense) -> tuple[Any, ...]:
    window = (layer.size, layer.stride, layer.padding) if isinstance(layer, Conv) else ()
    return window, [one for one in layer.then if not (isinstance(one, Dropout) and one.rescales)]
