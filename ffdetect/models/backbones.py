"""RGB backbones by name: every timm model.

A backbone maps normalised float N x 3 x H x W pictures to N x `features` vectors and tells the
`mean` and `std` that its input wants.
"""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from timm.models import group_parameters
from timm.optim import param_groups_layer_decay
from torch import nn

from .tensor_file import read_tensors


def create_backbone(name: str, size: int) -> nn.Module:
    """Make a backbone with random weights.

    Args:
        name: a timm model: `resnet18`, `efficientnet_b0`, `vit_small_patch16_224`,
            `swin_tiny_patch4_...`.
        size: side of the square crops; transformers lay out their tokens for it.

    Raises:
        ValueError: no backbone of that name, or one that cannot take this size.
    """
    if not timm.is_model(name):
        near = ", ".join(timm.list_models(f"*{name.split('_')[0]}*")[:5]) or "see timm.list_models"
        raise ValueError(f"expected a timm model but got {name!r} ({near})")
    try:
        try:
            backbone = timm.create_model(name, num_classes=0, img_size=size)
        except TypeError:  # convolutional networks take any size and know no img_size
            backbone = timm.create_model(name, num_classes=0)
        backbone.features = _count_features(backbone, size)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise ValueError(f"backbone {name!r} cannot take {size} px crops: {error}") from error
    backbone.mean = backbone.pretrained_cfg["mean"]
    backbone.std = backbone.pretrained_cfg["std"]
    return backbone


def load_backbone(backbone: nn.Module, file: str | Path) -> None:
    """Start a backbone from a safetensors file of pretrained weights.

    Batch norms that were folded into the convolutions before the file was saved (unit variance
    and zero mean everywhere) stay in evaluation mode for good: batch statistics would destroy
    such a network.

    Raises:
        WeightsError: not a safetensors file.
        ValueError: weights of another network.
    """
    state = {name: tensor.float() for name, tensor in read_tensors(file)[0].items()}
    own = backbone.state_dict()
    wrong = [n for n in own if n not in state or state[n].shape != own[n].shape]
    if wrong or state.keys() - own.keys():
        extra = sorted(state.keys() - own.keys())
        raise ValueError(
            f"{file}: expected weights of this backbone but {len(wrong)} of {len(own)} tensors "
            f"are missing or of another shape ({', '.join(wrong[:3])}) and {len(extra)} are "
            f"unknown ({', '.join(extra[:3])})"
        )
    backbone.load_state_dict(state)
    norms = [m for m in backbone.modules() if isinstance(m, nn.BatchNorm2d)]
    if norms and all(_is_folded(norm) for norm in norms):
        freeze_norms(backbone)


def freeze_norms(module: nn.Module) -> None:
    """Keep every batch norm of a module in evaluation mode, whatever `train()` says later."""
    module.frozen_norms = True
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            _keep_evaluating(part)


def freeze_stages(backbone: nn.Module, count: int) -> None:
    """Keep the stem and the first `count` stages as they are, with their batch statistics.

    Stages are what timm groups as such: of a residual network what runs at one stride, of a plain
    transformer a block.

    Raises:
        ValueError: the backbone has fewer stages.
    """
    # Parameter -> its stage; the stem is 0.
    stage = group_parameters(backbone, backbone.group_matcher(coarse=True), reverse=True)
    if not 1 <= count <= max(stage.values()):
        raise ValueError(f"expected 1 to {max(stage.values())} stages to freeze but got {count}")
    for name, parameter in backbone.named_parameters():
        if stage[name] <= count:
            parameter.requires_grad_(False)
    for part in backbone.modules():
        if isinstance(part, nn.BatchNorm2d) and part.affine and not part.weight.requires_grad:
            _keep_evaluating(part)


def layer_rates(backbone: nn.Module, rate: float, decay: float) -> list[dict]:
    """Optimiser groups of the parameters that are not frozen, by their layers.

    The last layer learns at `rate`, each before it at `decay` times the rate of the next (Clark et
    al. 2020, "ELECTRA"; Bao et al. 2022, "BEiT").
    """
    groups = param_groups_layer_decay(backbone, layer_decay=decay)
    return [{"params": group["params"], "lr": rate * group["lr_scale"]} for group in groups]


def _keep_evaluating(part: nn.Module) -> None:
    part.eval()
    part.train = lambda mode=True: part


def _is_folded(norm: nn.BatchNorm2d) -> bool:
    near_one = (norm.running_var - 1).abs().max() < 0.05
    return bool(near_one and norm.running_mean.abs().max() < 0.05)


def _count_features(backbone: nn.Module, size: int) -> int:
    with torch.no_grad():
        was_training = backbone.training
        shape = backbone.eval()(torch.zeros(1, 3, size, size)).shape
        backbone.train(was_training)
    return shape[1]
