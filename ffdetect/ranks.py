"""The processes of one training, as torchrun starts them; alone without it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together.

    Attributes:
        rank: 0 to `count` - 1.
        count: of all machines.
        here: how many of them run on this machine.
    """

    rank: int = 0
    count: int = 1
    here: int = 1

    @classmethod
    def of_environment(cls) -> Ranks:
        """As torchrun tells."""
        names = ("RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE")
        return cls(*(int(os.environ.get(name, d)) for name, d in zip(names, (0, 1, 1))))

    @property
    def first(self) -> bool:
        """It alone writes files and speaks."""
        return self.rank == 0

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Wait at the end until every rank is there."""
        yield
        if self.count > 1:
            import torch.distributed as dist

            mine = not dist.is_initialized()
            if mine:
                dist.init_process_group("gloo")
            dist.barrier()
            if mine:
                dist.destroy_process_group()
