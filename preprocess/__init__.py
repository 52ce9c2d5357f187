"""The offline stage: find faces, align them, compute their maps, write the cache."""

import os
import sys


def _after_fork() -> None:
    """PyTorch's threads do not outlive a fork, and a child that hands them work waits for ever."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)
