"""ffdetect train that notes which pairs and validation faces each rank draws.

torchrun --nproc-per-node 2 -m tests.ffdetect.training.ranked_train NOTES ARGUMENTS OF train
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch

from ffdetect.training import train
from ffdetect.training.data import FaceDataset, PairDataset


def note(kind: type, file: Path) -> None:
    get = kind.__getitem__

    def get_and_note(self, index):
        with file.open("a") as stream:
            stream.write(f"{index}\n")
        return get(self, index)

    kind.__getitem__ = get_and_note


def main(notes: str, *arguments: str) -> int:
    torch.set_num_threads(1)
    rank = os.environ.get("RANK", "0")
    note(PairDataset, Path(notes, f"pairs-{rank}"))
    note(FaceDataset, Path(notes, f"faces-{rank}"))
    return train.main(arguments)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
