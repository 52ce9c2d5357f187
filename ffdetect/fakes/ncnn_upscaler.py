"""Up-samplers published in ncnn's format (`NAME.param` beside `NAME.bin`).

Real-CUGAN, waifu2x and Real-ESRGAN are spread in this format, in Python packages among others.
What a network doubles or quadruples, and how much of its border it eats, is found by trying.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

_MARGIN = 20  # pixels of mirrored border; more than any of these networks eats
_PROBES = (64, 80)  # sides of the pictures that are tried


class NcnnUpscaler:
    """float 1 x 3 x H x W in 0..1 -> the same `scale` times as large; on the CPU.

    Sides of `H` and `W` are even.

    Raises:
        ValueError: ncnn is not installed, or the files are no network that enlarges pictures.
    """

    def __init__(self, param: str | Path) -> None:
        try:
            import ncnn
        except ImportError as error:
            raise ValueError("this up-sampler needs ncnn: pip install 'ffdetect[train]'") from error
        self.file = Path(param)
        weights = self.file.with_suffix(".bin")
        if not weights.is_file():
            raise ValueError(f"{self.file}: expected {weights.name} beside it but found none")
        self._ncnn, self._network = ncnn, ncnn.Net()
        self._network.opt.num_threads = torch.get_num_threads()
        self._network.opt.use_vulkan_compute = False
        if self._network.load_param(str(self.file)) or self._network.load_model(str(weights)):
            raise ValueError(f"{self.file}: expected a network in ncnn's format but got another")
        names = self._network.input_names(), self._network.output_names()
        if [len(n) for n in names] != [1, 1]:
            raise ValueError(f"{self.file}: expected one input and one output but got {names}")
        self._input, self._output = names[0][0], names[1][0]
        first, second = (self._run(torch.zeros(3, side, side)).shape[-1] for side in _PROBES)
        scale = (second - first) / (_PROBES[1] - _PROBES[0])
        if scale not in (2, 3, 4):
            raise ValueError(
                f"{self.file}: expected a network that enlarges 2 to 4 times but "
                f"pictures of {_PROBES} become {first, second}"
            )
        self.scale = int(scale)

    def __call__(self, picture: torch.Tensor) -> torch.Tensor:
        bordered = F.pad(picture, (_MARGIN,) * 4, mode="reflect")[0]
        enlarged = self._run(bordered.float().cpu().contiguous())
        height, width = (self.scale * side for side in picture.shape[-2:])
        top, left = (enlarged.shape[-2] - height) // 2, (enlarged.shape[-1] - width) // 2
        return enlarged[None, :, top : top + height, left : left + width].to(picture.device)

    def _run(self, picture: torch.Tensor) -> torch.Tensor:
        extractor = self._network.create_extractor()
        # A copy: ncnn does not keep the array that it only looks at.
        extractor.input(self._input, self._ncnn.Mat(picture.numpy()).clone())
        status, out = extractor.extract(self._output)
        made = np.array(out, dtype=np.float32) if not status else np.empty(0, np.float32)
        if made.ndim != 3 or made.shape[0] != 3:
            raise ValueError(f"{self.file}: expected 3 channels of a picture but got {made.shape}")
        return torch.from_numpy(made)
