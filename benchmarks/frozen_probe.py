"""A frozen ImageNet network and a linear probe: how much is told by features nobody trained.

ResNet-50 v2 up to stride 16; mean and deviation of every channel after each of the three stages,
standardised, then logistic regression.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from ffdetect.backbones import create_backbone, load_backbone
from preprocess.cache import CacheReader

BACKBONE = "resnetv2_50_stride16"


def load_frozen(weights: Path, size: int) -> nn.Module:
    """The backbone in evaluation mode with pretrained weights for crops of `size` px.

    Raises:
        ValueError: not the weights of this network.
    """
    backbone = create_backbone(BACKBONE, size)
    load_backbone(backbone, weights)
    return backbone.eval().requires_grad_(False).to(memory_format=torch.channels_last)


@torch.inference_mode()
def features(backbone: nn.Module, crops: torch.Tensor) -> np.ndarray:
    """float32 N x 3584 of uint8 N x 3 x H x W crops: mean, then deviation, stage by stage."""
    device = next(backbone.parameters()).device
    mean, std = (
        torch.tensor(v, device=device).view(1, 3, 1, 1) for v in (backbone.mean, backbone.std)
    )
    x = (crops.to(device).float() / 255 - mean) / std
    x = backbone.stem(x.contiguous(memory_format=torch.channels_last))
    pooled = []
    for stage in backbone.stages:
        x = stage(x)
        pooled += [x.mean((2, 3)), x.std((2, 3), correction=0)]
    return torch.cat(pooled, 1).float().cpu().numpy()


def probe_scores(
    backbone: nn.Module, reader: CacheReader, train: np.ndarray, test: np.ndarray
) -> np.ndarray:
    """float32 N: the probability of fake for the rows in `test` of a probe fitted on `train`."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    probe = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.02, class_weight="balanced", max_iter=300)
    )
    probe.fit(_all_features(backbone, reader, train), reader.metadata["target"].to_numpy()[train])
    scores = probe.predict_proba(_all_features(backbone, reader, test))[:, 1]
    return scores.astype(np.float32)


def _all_features(backbone: nn.Module, reader: CacheReader, rows: np.ndarray) -> np.ndarray:
    parts = tqdm(np.array_split(rows, -(-len(rows) // 32)), desc="features", unit="batch")
    return np.concatenate([features(backbone, reader.crops(part)) for part in parts])
