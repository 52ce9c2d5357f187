"""Averaged weights from step to step, over validation, a stop and a resumed run."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from ffdetect.models.weights import load_checkpoint
from ffdetect.training import train

pytest.importorskip("lightning", reason="training needs the [train] extra")
from ffdetect.training.lit import LitDetector


def run(cache, out, *more: str) -> int:
    command = [str(cache), "--out", str(out), "--backbone", "test_resnet", "--streams", "rgb"]
    command += ["--epochs", "2", "--steps", "2", "--batch", "4", "--workers", "0"]
    return train.main([*command, "--device", "cpu", "--precision", "fp32", *more])


@pytest.mark.usefixtures("keep_interrupts")
def test_averaged_weights_are_validated_kept_and_gone_on_with(faces_cache, tmp_path, monkeypatch):
    out = tmp_path / "net.safetensors"
    stepped, validated = [], []
    step, validate = LitDetector.training_step, LitDetector.validation_step

    def weight(module: LitDetector) -> torch.Tensor:
        return module.network.rgb.head.logit.weight.detach().clone()

    def stop_in_the_second_epoch(self, batch, number):
        if len(stepped) == 2:
            raise KeyboardInterrupt
        return step(self, batch, number)

    def watch(self, batch, number):
        validated.append(weight(self))
        return validate(self, batch, number)

    monkeypatch.setattr(LitDetector, "validation_step", watch)
    monkeypatch.setattr(
        LitDetector,
        "on_train_batch_end",
        lambda self, *_: stepped.append(weight(self)),
        raising=False,
    )
    with monkeypatch.context() as patch:
        patch.setattr(LitDetector, "training_step", stop_in_the_second_epoch)
        assert run(faces_cache, out, "--ema", "0.75", "--fit-all") == 130
    assert run(faces_cache, out, "--ema", "0.75", "--fit-all", "--resume") == 0
    assert len(stepped) == 4 and len(validated) == 2
    average, averages = stepped[0], []
    for after in stepped[1:]:
        average = 0.75 * average + 0.25 * after
        averages.append(average)
    torch.testing.assert_close(validated, [averages[0], averages[2]])
    assert not torch.equal(validated[1], stepped[3])
    assert torch.equal(load_file(out)["rgb.head.logit.weight"], validated[1].half())
    recipe = load_checkpoint(out).about["recipe"]
    assert recipe["backbone"] == "test_resnet" and "residual" not in recipe


@pytest.mark.usefixtures("keep_interrupts")
def test_a_new_run_that_stops_early_leaves_nothing_old_to_go_on_with(
    faces_cache, tmp_path, monkeypatch
):
    last = tmp_path / "net.run" / "last.ckpt"
    last.parent.mkdir()
    last.write_bytes(b"from an older run")

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(LitDetector, "training_step", stop)
    assert run(faces_cache, tmp_path / "net.safetensors") == 130
    assert not last.exists()
