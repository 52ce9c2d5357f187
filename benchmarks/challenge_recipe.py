"""The usual entry to a face-forgery challenge: a timm classifier and nothing else.

224 px, RandAugment (Cubuk et al. 2020), cross-entropy over two classes, Adam at 0.005, the rate
times 0.85 every 4 epochs. Faces are drawn as they come, without regard to class or generator.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from tqdm import tqdm

from ffdetect.models.backbones import create_backbone, load_backbone
from preprocess.cache.reader import CacheReader

SIZE = 224


class _Faces(Dataset):
    def __init__(self, reader: CacheReader, rows: np.ndarray, transform: nn.Module) -> None:
        self.reader, self.rows, self.transform = reader, rows, transform
        self.targets = reader.metadata["target"].to_numpy()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        row = int(self.rows[index])
        return self.transform(self.reader.crops([row])[0]), int(self.targets[row])


def create_classifier(name: str, init: Path | None = None, seed: int = 0) -> nn.Module:
    """A timm model with two outputs; the backbone is random or starts from safetensors.

    Raises:
        ValueError: an unknown model or weights of another one.
    """
    torch.manual_seed(seed)
    backbone = create_backbone(name, SIZE)
    if init is not None:
        load_backbone(backbone, init)
    return nn.Sequential(backbone, nn.Linear(backbone.features, 2))


def _transform(backbone: nn.Module, *augment: nn.Module) -> nn.Module:
    return v2.Compose(
        [
            v2.Resize((SIZE, SIZE), antialias=True),
            *augment,
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(backbone.mean, backbone.std),
        ]
    )


def train_and_score(
    classifier: nn.Module,
    reader: CacheReader,
    train: np.ndarray,
    test: np.ndarray,
    *,
    epochs: int,
    batch: int = 32,
    device: torch.device = torch.device("cpu"),  # noqa: B008 (a value)
    workers: int = 2,
    seed: int = 0,
) -> np.ndarray:
    """float32 N: the probability of fake for the rows in `test` after training on `train`.

    Args:
        classifier: from `create_classifier`.
        reader: the faces that both are rows of.
    """
    torch.manual_seed(seed)
    classifier = classifier.to(device).train()
    faces = _Faces(reader, train, _transform(classifier[0], v2.RandAugment()))
    batches = DataLoader(faces, batch, shuffle=True, num_workers=workers)
    optimizer = torch.optim.Adam(classifier.parameters(), 0.005)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 4, 0.85)
    for epoch in range(epochs):
        for crops, targets in tqdm(batches, desc=f"epoch {epoch + 1} of {epochs}", unit="batch"):
            loss = nn.functional.cross_entropy(classifier(crops.to(device)), targets.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    return _score(classifier.eval(), reader, test, batch, device, workers)


@torch.inference_mode()
def _score(
    classifier: nn.Module,
    reader: CacheReader,
    rows: np.ndarray,
    batch: int,
    device: torch.device,
    workers: int,
) -> np.ndarray:
    faces = _Faces(reader, rows, _transform(classifier[0]))
    scores = []
    for crops, _ in tqdm(DataLoader(faces, batch, num_workers=workers), desc="scoring"):
        scores.append(classifier(crops.to(device)).softmax(1)[:, 1].float().cpu())
    return torch.cat(scores).numpy()
