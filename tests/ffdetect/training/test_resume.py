"""What makes a stopped run fit to be gone on with."""

from __future__ import annotations

import pytest
import torch

from ffdetect.training.resume import check_checkpoint, keep_made
from tests.ffdetect.helpers import tiny_network


def test_what_was_made_in_another_way_is_not_gone_on_with(tmp_path):
    folder = tmp_path / "net.run"
    folder.mkdir()
    keep_made(folder, {"rate": "0.1", "mild": "0"}, resume=True)
    keep_made(folder, {"rate": "0.1", "mild": "0"}, resume=True)
    with pytest.raises(ValueError, match=r"net.run: expected checkpoints .*\(mild: '1', not '0'\)"):
        keep_made(folder, {"rate": "0.1", "mild": "1"}, resume=True)
    keep_made(folder, {"rate": "0.1", "mild": "1"}, resume=False)
    keep_made(folder, {"rate": "0.1", "mild": "1"}, resume=True)


def test_a_checkpoint_must_hold_this_networks_weights(tmp_path):
    file, network = tmp_path / "last.ckpt", tiny_network(size=128)
    state = {f"network.{name}": tensor for name, tensor in network.state_dict().items()}
    torch.save({"state_dict": {**state, "other": torch.zeros(1)}}, file)
    check_checkpoint(file, network)
    with pytest.raises(ValueError, match=f"{file}: expected this run's network"):
        check_checkpoint(file, tiny_network(size=128, streams="rgb"))
    file.write_bytes(b"no checkpoint")
    with pytest.raises(ValueError, match=f"{file}: expected a checkpoint .* leave out --resume"):
        check_checkpoint(file, network)
