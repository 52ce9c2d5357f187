"""Backbones: every name gives features, and pretrained files land where they belong."""

from __future__ import annotations

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import group_parameters
from torch import nn

from ffdetect.models.backbones import (
    create_backbone,
    freeze_norms,
    freeze_stages,
    layer_rates,
    load_backbone,
)


@pytest.mark.parametrize(
    ("name", "size", "features"),
    [
        ("resnet18", 160, 512),
        ("efficientnet_b0", 160, 1280),
        ("mobilenetv3_large_100", 160, 1280),
        ("vit_tiny_patch16_224", 224, 192),
        ("vit_tiny_patch16_224", 256, 192),
        ("swin_tiny_patch4_window7_224", 224, 768),
        ("swin_tiny_patch4_window7_224", 256, 768),
    ],
)
def test_a_backbone_gives_one_vector_a_picture(name, size, features):
    torch.manual_seed(0)
    backbone = create_backbone(name, size).eval()
    pictures = torch.randn(2, 3, size, size)
    with torch.inference_mode():
        vectors = backbone(pictures)
    assert vectors.shape == (2, features) == (2, backbone.features)
    assert vectors.isfinite().all() and not torch.equal(vectors[0], vectors[1])
    assert len(backbone.mean) == len(backbone.std) == 3


def test_making_a_backbone_leaves_it_in_training_mode():
    assert all(part.training for part in create_backbone("test_resnet", 128).modules())


@pytest.mark.parametrize("name", ["resnet19", "no_such_network", ""])
def test_an_unknown_name_is_refused_by_name(name):
    with pytest.raises(ValueError, match=rf"expected a timm model but got '{name}'"):
        create_backbone(name, 224)


@pytest.mark.parametrize("name", ["test_vit", "levit_128s"])
def test_a_size_that_a_transformer_cannot_take_is_refused(name):
    with pytest.raises(ValueError, match=f"'{name}' cannot take 250 px"):
        create_backbone(name, 250)


def write_backbone(file, real_norms: bool):
    """A network as it is made (means 0, variances 1: as where norms were folded), or as trained."""
    torch.manual_seed(1)
    made = timm.create_model("test_resnet", num_classes=0)
    for part in made.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.weight.data.uniform_(0.5, 2)
            if real_norms:
                part.running_var.uniform_(0.5, 2)
    save_file(made.state_dict(), file)
    return made.eval()


def test_real_batch_norms_go_on_learning(tmp_path):
    backbone = create_backbone("test_resnet", 128)
    write_backbone(tmp_path / "w.safetensors", real_norms=True)
    load_backbone(backbone, tmp_path / "w.safetensors")
    backbone.train()
    norms = [part for part in backbone.modules() if isinstance(part, nn.BatchNorm2d)]
    assert norms and all(norm.training for norm in norms)
    assert not hasattr(backbone, "frozen_norms")


def test_folded_batch_norms_stay_in_evaluation_mode(tmp_path):
    backbone = create_backbone("test_resnet", 128)
    reference = write_backbone(tmp_path / "w.safetensors", real_norms=False)
    load_backbone(backbone, tmp_path / "w.safetensors")
    assert backbone.frozen_norms
    pictures = torch.randn(2, 3, 128, 128)
    expected = reference(pictures)
    nn.Sequential(backbone).train()  # also when a module around it is put in training mode
    norms = [part for part in backbone.modules() if isinstance(part, nn.BatchNorm2d)]
    assert norms and not any(norm.training for norm in norms)
    assert backbone.layer1.training
    torch.testing.assert_close(backbone(pictures), expected, rtol=1e-4, atol=1e-4)
    assert all(norm.num_batches_tracked == 0 for norm in norms)


def test_freeze_norms_keeps_running_statistics():
    backbone = create_backbone("test_resnet", 128)
    freeze_norms(backbone)
    before = {k: t.clone() for k, t in backbone.state_dict().items() if "running" in k}
    backbone.train()(torch.randn(2, 3, 128, 128))
    after = backbone.state_dict()
    assert before and all(torch.equal(after[name], tensor) for name, tensor in before.items())


def test_a_pretrained_file_is_taken_over_whole(tmp_path):
    torch.manual_seed(1)
    trained = timm.create_model("test_resnet", num_classes=0)
    for part in trained.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_var.uniform_(0.5, 2)
    save_file(
        {k: t.half() if t.is_floating_point() else t for k, t in trained.state_dict().items()},
        tmp_path / "w.safetensors",
    )
    backbone = create_backbone("test_resnet", 128)
    load_backbone(backbone, tmp_path / "w.safetensors")
    for name, tensor in backbone.state_dict().items():
        assert tensor.dtype in (torch.float32, torch.int64)
        torch.testing.assert_close(tensor, trained.state_dict()[name], rtol=1e-3, atol=1e-6)


def break_file(kind: str, file) -> None:
    whole = timm.create_model("test_resnet", num_classes=0).state_dict()
    save_file(whole, file)
    if kind == "text":
        file.write_text("these are no weights\n")
    elif kind == "truncated":
        file.write_bytes(file.read_bytes()[:-1000])
    elif kind == "empty":
        file.write_bytes(b"")
    elif kind == "missing":
        file.unlink()
    elif kind == "folder":
        file.unlink()
        file.mkdir()


@pytest.mark.parametrize("kind", ["text", "truncated", "empty", "missing", "folder"])
def test_a_file_that_is_no_whole_safetensors_is_refused_by_name(tmp_path, kind):
    file = tmp_path / "some weights.safetensors"
    break_file(kind, file)
    with pytest.raises(ValueError, match=r"some weights.safetensors: expected a weights file"):
        load_backbone(create_backbone("test_resnet", 128), file)


def test_weights_of_another_network_are_refused_by_name(tmp_path):
    file = tmp_path / "other.safetensors"
    save_file(timm.create_model("test_efficientnet", num_classes=0).state_dict(), file)
    backbone = create_backbone("test_resnet", 128)
    before = {k: t.clone() for k, t in backbone.state_dict().items()}
    with pytest.raises(ValueError, match=r"other.safetensors: .*missing.*unknown"):
        load_backbone(backbone, file)
    assert all(torch.equal(t, before[k]) for k, t in backbone.state_dict().items())


def test_one_missing_or_misshapen_tensor_is_named(tmp_path):
    state = timm.create_model("test_resnet", num_classes=0).state_dict()
    name = next(iter(state))
    for change in ("drop", "reshape"):
        damaged = dict(state)
        damaged[name] = damaged[name][..., :1].contiguous()
        if change == "drop":
            del damaged[name]
        save_file(damaged, tmp_path / "w.safetensors")
        with pytest.raises(ValueError, match=rf"1 of \d+ tensors.*{name}"):
            load_backbone(create_backbone("test_resnet", 128), tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    ("name", "count", "frozen", "learning"),
    [
        ("test_resnet", 1, ("conv1.", "bn1.", "layer1."), ("layer2.", "layer3.", "layer4.")),
        ("test_resnet", 4, ("conv1.", "bn1.", "layer"), ()),
        (
            "test_vit",
            2,
            ("cls_token", "pos_embed", "patch_embed.", "blocks.0.", "blocks.1."),
            ("blocks.2.", "blocks.5.", "norm."),
        ),
    ],
)
def test_frozen_stages_stay_as_they_are(name, count, frozen, learning):
    torch.manual_seed(0)
    backbone = create_backbone(name, 160)
    freeze_stages(backbone, count)
    for key, parameter in backbone.named_parameters():
        if key.startswith((*frozen, *learning)):
            assert parameter.requires_grad == key.startswith(learning), key
    before = {key: buffer.clone() for key, buffer in backbone.named_buffers()}
    backbone.train()(torch.randn(2, 3, 160, 160))
    for key, buffer in backbone.named_buffers():  # batch statistics
        assert torch.equal(buffer, before[key]) == (not key.startswith(learning)), key


@pytest.mark.parametrize("count", [-1, 5])
def test_more_stages_than_there_are_cannot_be_frozen(count):
    with pytest.raises(ValueError, match=f"expected 1 to 4 stages to freeze but got {count}"):
        freeze_stages(create_backbone("test_resnet", 128), count)


@pytest.mark.parametrize("name", ["resnet18", "test_vit"])
def test_layers_learn_the_slower_the_deeper_they_lie(name):
    backbone = create_backbone(name, 160)
    layer = group_parameters(backbone, backbone.group_matcher(coarse=False), reverse=True)
    frozen = next(iter(layer))
    backbone.get_parameter(frozen).requires_grad_(False)
    groups = layer_rates(backbone, 0.1, 0.7)
    assert all(group.keys() == {"params", "lr"} for group in groups)  # all decay alike
    rate = {id(p): group["lr"] for group in groups for p in group["params"]}
    assert len(rate) == sum(len(group["params"]) for group in groups) == len(layer) - 1
    last = max(layer.values())
    assert last > 3
    for key, parameter in backbone.named_parameters():
        if key != frozen:
            assert rate[id(parameter)] == pytest.approx(0.1 * 0.7 ** (last - layer[key])), key
