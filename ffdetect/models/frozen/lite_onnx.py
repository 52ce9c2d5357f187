"""The stages of EfficientNet-Lite0 that streams read, run by ONNX Runtime, whose depthwise
convolutions are faster on a CPU than PyTorch's. `ffdetect.solving.pack_trunks` makes the file.
"""

from __future__ import annotations

import functools
from importlib import resources

import torch

from preprocess.faces.onnx_session import open_session, ort

FILE = "efficientnet_lite0.onnx"
STAGES = 5


def can_run(pixels: torch.Tensor, stages: int) -> bool:
    """Whether they are all that is wanted: values alone, on a CPU, and not to be traced."""
    traced = torch.is_grad_enabled() or torch.compiler.is_compiling()
    return stages <= STAGES and pixels.device.type == "cpu" and not traced


def run(pixels: torch.Tensor, stages: int) -> list[torch.Tensor]:
    """Output of the first stages, as `trunks.LiteTrunk` gives them, by as many threads as PyTorch
    computes with.

    Args:
        pixels: float32 N x 3 x H x W, (x - 127) / 128 of bytes.
        stages: 1 to `STAGES`.
    """
    options = ort.RunOptions()
    options.only_execute_path_to_fetches = True
    found = _session(torch.get_num_threads()).run(
        output_names()[:stages], {"pixels": pixels.numpy()}, options
    )
    return [torch.from_numpy(stage) for stage in found]


def output_names() -> list[str]:
    """What the file calls the outputs of stages."""
    return [f"stage{number}" for number in range(1, STAGES + 1)]


@functools.lru_cache(maxsize=16)  # a service computes with more or fewer as its load is
def _session(threads: int) -> ort.InferenceSession:
    with resources.as_file(resources.files("ffdetect.weights") / FILE) as file:
        return open_session(file, threads)
