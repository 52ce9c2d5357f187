"""The training loop's view of the network: losses, optimiser, validation AUC."""

from __future__ import annotations

from collections.abc import Mapping

import lightning as L
import numpy as np
import torch

from ffdetect.evaluation.metrics import generator_aucs
from ffdetect.models.base import Trainable

from .augment import mix_faces
from .losses import Objective, disagreement, target_loss

_STREAM_LOSS = 0.3  # each stream alone is supervised too, so that none is lazy


class LitDetector(L.LightningModule):
    """Trains on batches of `data.PairDataset`, validates on whole faces.

    Args:
        network: what is trained.
        epochs, steps: length of the run, for the learning-rate schedule.
        rate: peak learning rate of AdamW; `backbone_rate` is the backbone's share of it.
        generators: name of the generator or real source of every row of the cache.
        matches: fake generator -> real sources it is compared with; others with the rest.
        layer_decay: what each layer of the backbone learns at, as a share of the next one's rate.
        objective: what is minimised; with a weight of consistency, pairs must have two views.

    Attributes:
        seen: rows, targets and logits of the batches that were validated in this epoch.
    """

    def __init__(
        self,
        network: Trainable,
        *,
        epochs: int,
        steps: int,
        rate: float,
        backbone_rate: float,
        generators: np.ndarray,
        matches: Mapping[str, tuple[str, ...]],
        layer_decay: float = 1.0,
        objective: Objective | None = None,
    ) -> None:
        super().__init__()
        self.network = network.to(memory_format=torch.channels_last)
        self.total = epochs * steps
        self.rate, self.backbone_rate, self.layer_decay = rate, backbone_rate, layer_decay
        self.objective = objective or Objective()
        self.generators, self.matches = generators, matches
        self.seen: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []

    def training_step(self, batch: torch.Tensor, _: int) -> torch.Tensor:
        aim = self.objective
        # N x 2V -> 2N x V: the views of a face side by side
        faces = batch.unflatten(1, (-1, 2)).transpose(1, 2).flatten(0, 1)
        target = torch.tensor([0, 1], device=faces.device).repeat(len(batch))
        soft = target.float()
        if aim.mix:
            faces, soft = mix_faces(faces, target, aim.mix)
        views = faces.shape[1]
        logits = self.network.stream_logits(faces.flatten(0, 1))
        soft = soft.repeat_interleave(views)
        loss = target_loss(logits.fused, soft, aim.label_smoothing, aim.focal_gamma)
        shown = {"loss": loss}
        total = loss
        streams = [logit for logit in (logits.rgb, logits.frequency) if logit is not None]
        if len(streams) > 1:  # one alone is the fused logit
            for single in streams:
                single_loss = target_loss(single, soft, aim.label_smoothing, aim.focal_gamma)
                total = total + _STREAM_LOSS * single_loss
        if aim.consistency:
            shown["disagreement"] = disagreement(*logits.fused.view(-1, views).T)
            total = total + aim.consistency * shown["disagreement"]
        if not aim.mix:  # a mixed face has no class to be right about
            shown["accuracy"] = ((logits.fused > 0) == (soft > 0.5)).float().mean()
        self.log_dict(shown, prog_bar=True)
        return total

    def validation_step(self, batch: dict, _: int) -> None:
        logits = self.network(batch["crop"], batch.get("spectrum"), batch.get("residual"))
        self.seen.append((batch["row"].cpu(), batch["target"].cpu(), logits.float().cpu()))

    def on_validation_epoch_end(self) -> None:
        """The mean over generators of the AUC against matching reals, and each of them."""
        seen = self.seen
        if torch.distributed.is_initialized():
            gathered: list[list] = [[] for _ in range(torch.distributed.get_world_size())]
            torch.distributed.all_gather_object(gathered, seen)
            seen = [batch for batches in gathered for batch in batches]
        rows, targets, logits = (torch.cat(parts) for parts in zip(*seen, strict=True))
        self.seen.clear()
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
        groups = self.network.parameter_groups(
            self.rate, self.rate * self.backbone_rate, self.layer_decay
        )
        optimizer = torch.optim.AdamW(groups, weight_decay=0.02)
        # A tenth of the run, but never exactly one step: OneCycleLR would divide by zero.
        rise = max(0.1, 1.5 / max(self.total, 2))
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, [g["lr"] for g in groups], total_steps=self.total, pct_start=rise
        )
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}
