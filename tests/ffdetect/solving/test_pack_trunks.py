"""Files of trunks: what is packed, and that a shipped file is never half written."""

from __future__ import annotations

from importlib import resources

import pytest
import torch
from safetensors.torch import load_file, save_file

from ffdetect.models.frozen.trunks import TRUNKS
from ffdetect.solving.pack_trunks import pack


@pytest.mark.parametrize("name", TRUNKS)
def test_a_packed_trunk_is_packed_again_as_it_is(name, tmp_path):
    """To the byte: weights know a trunk by the digest of its file."""
    with resources.as_file(resources.files("ffdetect.weights") / TRUNKS[name].file) as shipped:
        target, whole = tmp_path / "packed", load_file(shipped)
        whole["head.of.the.start"] = torch.zeros(3)
        save_file(whole, tmp_path / "start")
        target.write_bytes(b"as it was")
        (tmp_path / "read meanwhile").hardlink_to(target)
        pack(name, tmp_path / "start", target)
        assert target.read_bytes() == shipped.read_bytes()
    assert (tmp_path / "read meanwhile").read_bytes() == b"as it was"
