"""MTCNN's three networks in PyTorch, as a GPU runs them, and as they are exported for a CPU.

The weights are those in facenet-pytorch's wheel, read without importing it.

    python -m preprocess.faces.mtcnn_networks FOLDER    # writes what `weights/` holds
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from preprocess.io.storage import write_whole

from .mtcnn_interface import Network, Networks

_BATCH = 256  # candidates that go through a network at once
_BLOCK = 16  # channels that ONNX Runtime computes together, at most
_FILES = ("pnet.pt", "rnet.pt", "onet.pt")  # in facenet-pytorch's wheel
Weights = dict[str, torch.Tensor]


def open_networks(device: str | torch.device) -> Networks:
    """PNet, RNet and ONet on a device."""
    pnet, rnet, onet = (_on(network, device) for network in make_networks())
    return Networks(pnet, rnet, onet, _BATCH)


def _on(network: nn.Module, device: str | torch.device) -> Network:
    network = network.to(device)

    @torch.inference_mode()
    def run(pixels: np.ndarray) -> list[np.ndarray]:
        return [output.cpu().numpy() for output in network(torch.from_numpy(pixels).to(device))]

    return run


def make_networks() -> tuple[Proposer | Judge, ...]:
    """PNet, RNet and ONet, which take what `mtcnn_interface.Networks` says, and give it."""
    spec = find_spec("facenet_pytorch")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("expected facenet-pytorch, whose wheel brings MTCNN's weights")
    folder = Path(spec.origin).with_name("data")
    pnet, rnet, onet = (torch.load(folder / name, weights_only=True) for name in _FILES)
    return Proposer(pnet), Judge(rnet, 24, pools=(3, 3)), Judge(onet, 48, pools=(3, 3, 2))


class Proposer(nn.Module):
    """PNet: float32 H x W x 3 in 0..255 -> probabilities h x w, shifts h x w x 4.

    Its first activation, max(x, 0) + slope * min(x, 0), does not commute with the pooling that
    follows where the slope is negative. But there it is max(x, slope * x), and a convolution of 16
    channels takes no longer than one of 10: the other six compute slope * x, and the activation
    comes after the pooling, on a quarter of the pixels.
    """

    example, dynamic = torch.zeros(40, 52, 3), {0: "h", 1: "w"}
    told = ("probabilities", "shifts")

    def __init__(self, weights: Weights) -> None:
        super().__init__()
        weight, bias = _on_bytes(weights)
        slope = weights["prelu1.weight"]
        falling = torch.where(slope < 0)[0]
        own, twins = range(len(slope)), range(len(slope), len(slope) + len(falling))
        self.first = _convolution(
            torch.cat([weight, weight[falling] * slope[falling, None, None, None]]),
            torch.cat([bias, bias[falling] * slope[falling]]),
        )
        # Of pooled values: what is added where they are below 0, or below their twin's.
        channels = self.first.out_channels
        below = torch.zeros(channels, channels)
        below[own, own] = -1.0
        below[falling, twins] = 1.0
        share = torch.zeros(channels)
        share[own] = torch.where(slope < 0, 1.0, 1 - slope)
        self.activation = _Activation(share, _convolution(below[..., None, None]))
        self.second = nn.Sequential(
            _convolution(_wider(weights["conv2.weight"], 1, channels), weights["conv2.bias"]),
            _Activation(1 - weights["prelu2.weight"]),
            _convolution(weights["conv3.weight"], weights["conv3.bias"]),
            _Activation(1 - weights["prelu3.weight"]),
            _convolution(*_heads(weights, ("conv4_1", "conv4_2"))),
        )

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = F.max_pool2d(self.first(pixels.permute(2, 0, 1)[None]), 2, ceil_mode=True)
        (x,) = self.second(self.activation(x))
        return _probability(x[0]), x[1:].permute(1, 2, 0)


class Judge(nn.Module):
    """RNet or ONet: float32 N x side x side x 3 in 0..255 -> probabilities N, shifts N x 4, and
    from ONet landmarks N x 10.

    Args:
        weights: of the network.
        side: of what it looks at.
        pools: sides of the pooling windows after its convolutions; there is none after the last.
    """

    dynamic = {0: "n"}  # noqa: RUF012

    def __init__(self, weights: Weights, side: int, pools: tuple[int, ...]) -> None:
        super().__init__()
        self.example = torch.zeros(2, side, side, 3)
        self.told = ("probabilities", "shifts", "landmarks")[: 2 + (side == 48)]
        weights["conv1.weight"], weights["conv1.bias"] = _on_bytes(weights)
        last = len(pools) + 1
        layers: list[nn.Module] = []
        channels = 3
        for number in range(1, last + 1):
            weight = _wider(weights[f"conv{number}.weight"], 1, channels)
            channels = -(-len(weight) // _BLOCK) * _BLOCK
            bias, slope = weights[f"conv{number}.bias"], weights[f"prelu{number}.weight"]
            layers.append(_convolution(_wider(weight, 0, channels), _wider(bias, 0, channels)))
            layers.append(_Activation(1 - _wider(slope, 0, channels)))
            layers += [nn.MaxPool2d(pool, 2, ceil_mode=True) for pool in pools[number - 1 : number]]
        self.features = nn.Sequential(*layers)
        hidden = f"dense{last + 1}"
        self.hidden = _linear(weights[f"{hidden}.weight"], weights[f"{hidden}.bias"])
        self.slope = nn.Parameter(weights[f"prelu{last + 1}.weight"])
        heads = [f"dense{last + 2}_{number}" for number in range(1, len(self.told) + 1)]
        self.heads = _linear(*_heads(weights, heads))
        self.outputs = [1, 4, 10][: len(heads)]

    def forward(self, views: torch.Tensor) -> list[torch.Tensor]:
        x = self.features(views.permute(0, 3, 1, 2))
        # The weights read features by column, row and channel.
        x = F.prelu(self.hidden(x.transpose(1, 3).flatten(1)), self.slope)
        logit, *others = self.heads(x).split(self.outputs, 1)
        return [_probability(logit[:, 0]), *others]


class _Activation(nn.Module):
    """PReLU by channel, as x + share * ReLU(-x): convolutions of a single pixel, which ONNX Runtime
    computes in the layout of those around them.

    Args:
        share: by channel, 1 less the slope.
        below: what makes -x of x, where it does more.
    """

    def __init__(self, share: torch.Tensor, below: nn.Module | None = None) -> None:
        super().__init__()
        self.below = below or _scales(-torch.ones_like(share))
        self.share = _scales(share)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.share(F.relu(self.below(x)))


def _probability(logit: torch.Tensor) -> torch.Tensor:
    """The sigmoid, but not ONNX Runtime's, which puts scores close to 1 in another order."""
    return 1 / (1 + (-logit).exp())


def _on_bytes(weights: Weights) -> tuple[torch.Tensor, torch.Tensor]:
    """The first convolution, so that it takes pixels as they are and not (pixels - 127.5) / 128."""
    weight, bias = weights["conv1.weight"], weights["conv1.bias"]
    return weight / 128, bias - weight.sum((1, 2, 3)) * (127.5 / 128)


def _heads(weights: Weights, names: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Weight and bias of all heads as one; of the first, no face and a face, the logit is left."""
    weight = [weights[f"{name}.weight"] for name in names]
    bias = [weights[f"{name}.bias"] for name in names]
    weight[0], bias[0] = weight[0][1:] - weight[0][:1], bias[0][1:] - bias[0][:1]
    return torch.cat(weight), torch.cat(bias)


def _convolution(weight: torch.Tensor, bias: torch.Tensor | None = None) -> nn.Conv2d:
    layer = nn.Conv2d(weight.shape[1], weight.shape[0], weight.shape[2], bias=bias is not None)
    layer.weight = nn.Parameter(weight)
    if bias is not None:
        layer.bias = nn.Parameter(bias)
    return layer


def _scales(factors: torch.Tensor) -> nn.Conv2d:
    """A convolution that multiplies every channel with a factor of its own."""
    layer = nn.Conv2d(len(factors), len(factors), 1, groups=len(factors), bias=False)
    layer.weight = nn.Parameter(factors[:, None, None, None].clone())
    return layer


def _wider(weights: torch.Tensor, axis: int, channels: int) -> torch.Tensor:
    """With zeros for channels that are there to fill a block."""
    missing = channels - weights.shape[axis]
    shape = [*weights.shape[:axis], missing, *weights.shape[axis + 1 :]]
    return torch.cat([weights, torch.zeros(shape)], axis)


def _linear(weight: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    return layer


def write_onnx(
    file: Path,
    network: nn.Module,
    example: torch.Tensor,
    name: str,
    dynamic: dict[int, str],
    outputs: Sequence[str],
) -> None:
    """Export a network of one input; the file is written whole or not at all.

    Args:
        example: of that input.
        name: of that input.
        dynamic: its axes of any length.
        outputs: names of what the network gives.
    """
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its own parts
        network.eval()(example)  # what networks keep for next time is made by this, not of traces
        program: Any = torch.onnx.export(
            network,
            (example,),
            dynamo=True,
            dynamic_shapes=(dynamic,),
            input_names=[name],
            output_names=[*outputs],
            verbose=False,
        )
    for node in program.model.graph:
        node.metadata_props.clear()  # where in the code each comes from, with paths of this machine
    write_whole(file, program.model_proto.SerializeToString())


def main(folder: Path) -> None:
    from .mtcnn_onnx import ONNX_FILES

    for file, network in zip(ONNX_FILES, make_networks(), strict=True):
        write_onnx(folder / file, network, network.example, "pixels", network.dynamic, network.told)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
