"""The same network and optimiser in PyTorch (2.4 or later), in its fastest forms, to compare step.py with.

The differences are all to PyTorch's advantage: it subtracts a single crop of the mean image from the whole batch, adds
no lighting, and counts no ranks; under autocast it normalises in whatever type autocast chooses.
"""

# mypy: disable-error-code="import-not-found"

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from alexnet_jax.data.batches.batch import Batch

FORMS = ("band", "LocalResponseNorm")
SIZE = 224  # of a view, pixels
VERSION = str(torch.__version__)


class Network(nn.Module):
    """The paper's network with the towers as two groups; architecture.py has the table of its layers."""

    def __init__(self, rate: float = 0.5) -> None:
        super().__init__()
        self.rate = rate
        self.conv1 = nn.Conv2d(3, 96, 11, stride=4)
        self.conv2 = nn.Conv2d(96, 256, 5, padding=2, groups=2)
        self.conv3 = nn.Conv2d(256, 384, 3, padding=1)
        self.conv4 = nn.Conv2d(384, 384, 3, padding=1, groups=2)
        self.conv5 = nn.Conv2d(384, 256, 3, padding=1, groups=2)
        self.fc6 = nn.Linear(6 * 6 * 256, 4096)
        self.fc7 = nn.Linear(4096, 4096)
        self.fc8 = nn.Linear(4096, 1000)
        # PyTorch multiplies the mean of the window's squares by alpha, the paper their sum.
        self.lrn = nn.LocalResponseNorm(5, alpha=5 * 1e-4, beta=0.75, k=2.0)
        for maps in (96, 256):
            self.register_buffer(f"band{maps}", _band(maps))

    def forward(self, images: torch.Tensor, mean: torch.Tensor, form: str) -> torch.Tensor:
        """Logits [b, 1000] for images, uint8 [b, 224, 224, 3], minus their mean, float [224, 224, 3]."""
        x = F.pad(images.float() - mean, (0, 0, 0, 3, 0, 3)).permute(0, 3, 1, 2)  # channels last, 3 pixels after
        x = F.max_pool2d(self.normalise(F.relu(self.conv1(x)), form), 3, 2)
        x = F.max_pool2d(self.normalise(F.relu(self.conv2(x)), form), 3, 2)
        x = F.relu(self.conv3(x))
        x = F.relu(self.conv4(x))
        x = F.max_pool2d(F.relu(self.conv5(x)), 3, 2)
        x = x.permute(0, 2, 3, 1).flatten(1)  # rows, columns, maps: free in channels last
        x = self.drop(F.relu(self.fc6(x)))
        x = self.drop(F.relu(self.fc7(x)))
        return self.fc8(x)

    def normalise(self, x: torch.Tensor, form: str) -> torch.Tensor:
        """Response normalisation of x [b, maps, h, w], separately for each half of the maps."""
        if form == "LocalResponseNorm":
            return torch.cat([self.lrn(tower) for tower in x.chunk(2, dim=1)], dim=1)
        root = (2.0 + 1e-4 * F.conv2d(x * x, getattr(self, f"band{x.shape[1]}"))).rsqrt()
        return x * (root * root.sqrt())

    def drop(self, x: torch.Tensor) -> torch.Tensor:
        """Dropout as in the paper: PyTorch rescales the survivors, and this undoes it, at test time too."""
        return F.dropout(x, self.rate, self.training) * (1 - self.rate)


def _band(maps: int) -> torch.Tensor:
    place = torch.arange(maps)
    near = (place[:, None] - place).abs() <= 2
    return (near & (place[:, None] // (maps // 2) == place // (maps // 2))).float()[:, :, None, None]


def network(params: dict[str, Any], device: str) -> Network:
    """The network with JAX's parameters, {layer: {kernel, bias}} of NumPy arrays."""
    net = Network()
    with torch.no_grad():
        for name, value in params.items():
            layer = getattr(net, name)
            outputs = layer.bias.numel()  # the classes may be padded
            kernel = value["kernel"][..., :outputs]
            layer.weight.copy_(torch.tensor(kernel.transpose(3, 2, 0, 1) if kernel.ndim == 4 else kernel.T))
            layer.bias.copy_(torch.tensor(value["bias"][:outputs]))
    return net.to(device, memory_format=torch.channels_last)


def has_cuda() -> bool:
    """Whether this PyTorch finds a GPU."""
    return torch.cuda.is_available()


def prepare(cores: int, dtype: str) -> None:
    """Sets PyTorch's switches for speed."""
    torch.set_num_threads(cores)
    torch.backends.cudnn.benchmark = True
    precise(dtype != "tf32")


def precise(exact: bool) -> None:
    """Chooses exact float32 products, or TF32 where the GPU has it."""
    torch.set_float32_matmul_precision("highest" if exact else "high")
    torch.backends.cudnn.allow_tf32 = not exact


def views(images: torch.Tensor, mean: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """The ten views of squares [b, side, side, 3], each with its part of the mean image."""
    room = images.shape[1] - SIZE
    for top, left in ((0, 0), (0, room), (room, 0), (room, room), (room // 2, room // 2)):
        crop = images[:, top : top + SIZE, left : left + SIZE].contiguous()
        under = mean[top : top + SIZE, left : left + SIZE].contiguous()
        yield crop, under
        yield crop.flip(2), under.flip(1)


def losses(params: dict[str, Any], mode: str, batch: Batch, mean: np.ndarray, device: str) -> dict[str, float]:
    """The mean loss at test time in float32, in nats, for each form of response normalisation."""
    net = network(params, device).eval()
    images, labels, means = _arrays(mode, batch, mean, device)
    found = {}
    with torch.no_grad():
        for form in FORMS:
            if mode == "ten_views":
                parts = [net(crop, under, form).softmax(1) for crop, under in views(images, means)]
                loss = F.nll_loss(torch.stack(parts).mean(0).log(), labels)
            else:
                loss = F.cross_entropy(net(images, means, form), labels)
            found[form] = float(loss)
    return found


def settings(
    params: dict[str, Any], mode: str, dtype: str, batch: Batch, mean: np.ndarray, device: str
) -> dict[str, Callable[[int], None]]:
    """For each setting a function that does so many steps and waits for them. The settings share their weights."""
    net = network(params, device).train(mode == "train")
    arrays = _arrays(mode, batch, mean, device)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9, weight_decay=0.0005, fused=True)
    # The likely fastest first: if memory runs out, only the last settings fail.
    return {
        f"{'compiled' if compiled else 'eager'} {form}": _setting(net, optimizer, form, compiled, mode, dtype, arrays)
        for compiled in (True, False)
        for form in FORMS
    }


def _arrays(mode: str, batch: Batch, mean: np.ndarray, device: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    room = (mean.shape[0] - SIZE) // 2
    under = mean if mode == "ten_views" else mean[room : room + SIZE, room : room + SIZE].copy()
    labels = batch.label.astype(np.int64)
    images, targets, means = (torch.tensor(array, device=device) for array in (batch.image, labels, under))
    return images, targets, means


def _setting(
    net: Network,
    optimizer: torch.optim.Optimizer,
    form: str,
    compiled: bool,
    mode: str,
    dtype: str,
    arrays: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
) -> Callable[[int], None]:
    images, labels, means = arrays
    device = images.device.type

    def mean_loss(crops: torch.Tensor, under: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(net(crops, under, form).float(), labels)

    def probabilities(crops: torch.Tensor, under: torch.Tensor) -> torch.Tensor:
        return net(crops, under, form).float().softmax(1)

    function: Any = probabilities if mode == "ten_views" else mean_loss
    if compiled:
        function = torch.compile(function, mode="max-autotune" if device == "cuda" else "default")

    def forward(crops: torch.Tensor, under: torch.Tensor) -> torch.Tensor:
        if compiled and device == "cuda":
            torch.compiler.cudagraph_mark_step_begin()
        with torch.autocast(device, torch.bfloat16, enabled=dtype == "bfloat16"):
            return function(crops, under)

    def train() -> None:
        optimizer.zero_grad(set_to_none=True)
        forward(images, means).backward()
        optimizer.step()

    @torch.no_grad()
    def test() -> None:
        if mode == "inference":
            forward(images, means)
            return
        total = torch.zeros(len(labels), 1000, device=device)
        for crop, under in views(images, means):
            total += forward(crop, under)  # added at once, since the next view may overwrite a graph's output
        F.nll_loss((total / 10).log(), labels)

    def run(steps: int) -> None:
        for _ in range(steps):
            train() if mode == "train" else test()
        if device == "cuda":
            torch.cuda.synchronize()

    return run
