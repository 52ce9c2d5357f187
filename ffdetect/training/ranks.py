"""The processes of one training, as torchrun starts them; alone without it."""

from __future__ import annotations

import atexit
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
        told = os.environ
        return cls(
            rank=int(told.get("RANK", 0)),
            count=int(told.get("WORLD_SIZE", 1)),
            here=int(told.get("LOCAL_WORLD_SIZE", 1)),
        )

    @property
    def first(self) -> bool:
        """It alone writes files and speaks."""
        return self.rank == 0

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Wait at the end until every rank is there."""
        yield
        if self.count > 1:
            import torch

            _join()
            torch.distributed.all_reduce(torch.zeros(1))


def _join() -> None:
    """Make the group of all ranks, once; Lightning then finds it."""
    import torch
    import torch.distributed as dist

    if not dist.is_initialized():
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(_leave)


def _leave() -> None:
    import torch.distributed as dist

    if dist.is_initialized():
        dist.destroy_process_group()
