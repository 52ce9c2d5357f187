"""Up-samplers in ncnn's format, with a network that ncnn's own bilinear layer makes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ffdetect.fakes.ncnn_upscaler import NcnnUpscaler
from ffdetect.fakes.regenerators import create_regenerator, regenerator_kinds
from tests.ffdetect.helpers import random_crops

pytest.importorskip("ncnn")


def write_network(folder, scale=2.0, name="bilinear"):
    """A network of one layer that enlarges by `scale`."""
    (folder / f"{name}.param").write_text(
        f"7767517\n2 2\nInput in0 0 1 in0\nInterp up 1 1 in0 out0 0=2 1={scale} 2={scale}\n"
    )
    (folder / f"{name}.bin").write_bytes(b"")
    return folder / f"{name}.param"


@pytest.mark.parametrize("scale", [2, 4])
def test_it_enlarges_as_its_network_says(tmp_path, scale):
    network = NcnnUpscaler(write_network(tmp_path, float(scale)))
    picture = torch.rand(1, 3, 32, 48)
    made = network(picture)
    assert network.scale == scale and made.shape == (1, 3, 32 * scale, 48 * scale)
    wanted = F.interpolate(picture, scale_factor=scale, mode="bilinear", align_corners=False)
    inside = np.s_[..., 2 * scale : -2 * scale, 2 * scale : -2 * scale]
    torch.testing.assert_close(made[inside], wanted[inside], rtol=0, atol=5e-3)


def test_it_makes_twins_by_the_name_of_its_file(tmp_path):
    write_network(tmp_path)
    crop = random_crops(1, 64)[0]
    assert regenerator_kinds(tmp_path) == ["bilinear"]
    make = create_regenerator("bilinear", tmp_path)
    twins, again = (make(crop, np.random.default_rng(0)) for _ in range(2))
    assert twins.fake.shape == crop.shape and twins.fake.dtype == torch.uint8
    assert torch.equal(twins.fake, again.fake) and torch.equal(twins.real, again.real)
    assert not torch.equal(twins.fake, twins.real)


def test_what_is_no_upsampler_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"same\.param: expected a network that enlarges"):
        NcnnUpscaler(write_network(tmp_path, 1.0, "same"))
    alone = write_network(tmp_path, name="alone")
    alone.with_suffix(".bin").unlink()
    with pytest.raises(ValueError, match=r"alone\.param: expected alone\.bin beside it"):
        NcnnUpscaler(alone)
    garbage = write_network(tmp_path, name="garbage")
    garbage.write_text("not a network\n")
    with pytest.raises(ValueError, match=r"garbage\.param: expected"):
        NcnnUpscaler(garbage)
