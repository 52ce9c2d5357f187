"""The training loop's view of the network: losses, optimiser, validation AUC."""

from __future__ import annotations

import lightning as L
import numpy as np
import torch
import torch.nn.functional as F

from .data import Pair
from .metrics import generator_aucs
from .network import DualStream

_STREAM_LOSS = 0.3  # each stream alone is supervised too, so that none is lazy


class LitDetector(L.LightningModule):
    """Trains on batches of `data.Pair`, validates on whole faces.

    Args:
        network: what is trained.
        epochs, steps: length of the run, for the learning-rate schedule.
        rate: peak learning rate of AdamW; `backbone_rate` is the backbone's share of it.
        generators: name of the generator or real source of every row of the cache.
        matches: fake generator -> real sources it is compared with; others with the rest.
    """

    def __init__(
        self,
        network: DualStream,
        *,
        epochs: int,
        steps: int,
        rate: float,
        backbone_rate: float,
        generators: np.ndarray,
        matches: dict[str, tuple[str, ...]],
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.total = epochs * steps
        self.rate, self.backbone_rate = rate, backbone_rate
        self.generators, self.matches = generators, matches
        self._seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def training_step(self, batch: Pair, _: int) -> torch.Tensor:
        pairs = batch.crops
        target = torch.tensor([0.0, 1.0], device=pairs.device).repeat(len(pairs))
        logits = self.network.stream_logits(pairs.flatten(0, 1))
        loss = F.binary_cross_entropy_with_logits(logits.fused, target)
        total = loss
        if self.network.settings.streams == "both":
            for single in (logits.rgb, logits.frequency):
                total = total + _STREAM_LOSS * F.binary_cross_entropy_with_logits(single, target)
        correct = ((logits.fused > 0) == (target > 0.5)).float().mean()
        self.log_dict({"loss": loss, "accuracy": correct}, prog_bar=True)
        return total

    def validation_step(self, batch: dict, _: int) -> None:
        logits = self.network(batch["crop"], batch.get("spectrum"), batch.get("residual"))
        self._seen.append((batch["row"].cpu(), batch["target"].cpu(), logits.float().cpu()))

    def on_validation_epoch_end(self) -> None:
        """The mean over generators of the AUC against matching reals, and each of them."""
        rows, targets, logits = (torch.cat(parts) for parts in zip(*self._seen, strict=True))
        self._seen.clear()
        names = self.generators[rows.numpy()]
        # A network that diverged calls nothing fake or real; the best epoch before is kept.
        scores = logits.nan_to_num().numpy()
        aucs = generator_aucs(names, targets.numpy(), scores, self.matches)
        mean = float(np.mean(list(aucs.values()))) if aucs else float("nan")
        self.log("val_auc", mean, prog_bar=True)
        self.log_dict({f"val_auc/{name}": value for name, value in aucs.items()})
        shown = "  ".join(f"{name} {value:.3f}" for name, value in aucs.items())
        self.print(f"\nepoch {self.current_epoch}: val_auc {mean:.4f}  {shown}")

    def configure_optimizers(self) -> dict:
        backbone = self.network.pretrained
        known = {id(parameter) for parameter in backbone}
        new = [p for p in self.network.parameters() if id(p) not in known]
        groups = [{"params": new, "lr": self.rate}]
        if backbone:
            groups.append({"params": backbone, "lr": self.rate * self.backbone_rate})
        optimizer = torch.optim.AdamW(groups, weight_decay=0.02)
        # A tenth of the run, but never exactly one step: OneCycleLR would divide by zero.
        rise = max(0.1, 1.5 / max(self.total, 2))
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, [g["lr"] for g in groups], total_steps=self.total, pct_start=rise
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
