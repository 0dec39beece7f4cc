"""PyTorch's state dicts, as `.pth` or as safetensors.

Layers have the names of torchvision's `alexnet` (`features.0.weight`, ...) or this program's (`conv1.weight`, ...).
Only `.pth` needs PyTorch installed.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from alexnet_jax.messages import UserError
from alexnet_jax.network.architecture import AlexNetOptions, Architecture, Conv, Dense, Dropout, alexnet
from alexnet_jax.weights.axis_order import MapsFirstLayer

TORCHVISION = tuple(f"features.{i}" for i in (0, 3, 6, 8, 10)) + tuple(f"classifier.{i}" for i in (1, 4, 6))
STATE_DICTS = ("model", "state_dict")  # the keys under which training scripts put a state dict in a checkpoint


def read_state_dict(path: Path, names: Sequence[str]) -> list[MapsFirstLayer]:
    """The layers of a `.safetensors` or a `.pth` file, in the network's order.

    Args:
      names: this program's names for the layers, in their order.

    Raises:
      UserError: the file cannot be read, would run code, or holds no state dict; or it needs PyTorch, which is not
        installed.
    """
    arrays = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    arrays = {name.removeprefix("module."): array for name, array in arrays.items()}  # DataParallel adds it
    found = dict.fromkeys(name.rpartition(".")[0] for name in arrays)
    order = [name for name in (*TORCHVISION, *names) if name in found]
    order += [name for name in found if name not in order]
    expected = [f"{name}.{kind}" for name in order for kind in ("weight", "bias")]
    wrong = [name for name in (*expected, *arrays) if name not in arrays or name not in expected]
    if wrong:
        difference = f"has {wrong[0]}" if wrong[0] in arrays else f"has no {wrong[0]}"
        raise UserError(
            f"--weights={path} is of another network: it {difference}, but here each layer has a weight and a bias; "
            "name a file with AlexNet's weights"
        )
    for name in expected:
        if arrays[name].dtype.kind != "f" and arrays[name].dtype.name != "bfloat16":
            raise UserError(
                f"--weights={path}: its {name} has the type {arrays[name].dtype}; give it in floating point"
            )
    return [MapsFirstLayer(name, arrays[f"{name}.weight"], arrays[f"{name}.bias"]) for name in order]


def _safetensors(path: Path) -> Mapping[str, np.ndarray]:
    try:
        return load_file(path)
    except OSError as error:
        raise UserError(f"--weights={path} cannot be read ({error.strerror or error}); name a .safetensors") from error
    except (SafetensorError, ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"--weights={path} is not a complete .safetensors file ({error}); get the file again"
        ) from error


def _pickled(path: Path) -> Mapping[str, np.ndarray]:
    """Reads a .pth by PyTorch's restricted loader, which builds tensors and dicts and runs no other code."""
    if not path.is_file():
        raise UserError(f"--weights={path} is not a file; name a .pth or a .safetensors")
    with open(path, "rb") as file:
        if not file.read(4).startswith((b"PK", b"\x80")):  # a zip, as torch.save writes, or a pickle
            raise UserError(f"--weights={path} does not begin like a .pth; name a .pth, or give the right --format")
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"--weights={path} needs PyTorch, which is not installed; install it with "
            "`pip install 'alexnet_jax[torch]'`, or give the weights as .safetensors, which does not need it"
        ) from error
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the loader raises whatever its unpickler and its archive raise
        sentence = str(error).strip().partition("\n")[0]
        raise UserError(
            f"--weights={path} cannot be loaded: it is damaged, or holds more than tensors and would run code "
            f"({sentence}); give a file that holds only a state dict"
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
    """The tensors under torchvision's names if the network is torchvision's, else under the layers' names."""
    names = TORCHVISION if is_torchvisions(net) else [layer.name for layer in layers]
    return {
        f"{name}.{kind}": array
        for name, layer in zip(names, layers, strict=True)
        for kind, array in (("weight", layer.kernel), ("bias", layer.bias))
    }


def is_torchvisions(net: Architecture) -> bool:
    """Whether the network, at any widths, computes at test time what `torchvision.models.alexnet` computes."""
    theirs = alexnet(AlexNetOptions(towers=1, first_padding=(2, 2), norm=(), dropout=Dropout(rescales=True)))
    return net.towers == 1 and [_at_test(layer) for layer in net.layers] == [_at_test(layer) for layer in theirs.layers]


def _at_test(layer: Conv | Dense) -> tuple[Any, ...]:
    window = (layer.size, layer.stride, layer.padding) if isinstance(layer, Conv) else ()
    return window, [op for op in layer.then if not (isinstance(op, Dropout) and op.rescales)]
