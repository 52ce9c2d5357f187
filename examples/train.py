"""python examples/train.py DATA OUT.safetensors [OPTION ...]: from pictures to weights of your own.

DATA has folders real/ and fake/, or a label file (docs/labels.md). OPTIONs are those of
`ffdetect train`, such as --backbone resnet18 --epochs 5.
"""

from __future__ import annotations

import sys
from pathlib import Path

from ffdetect import evaluate
from ffdetect.training import train
from preprocess import crop


def main(data: str, out: str, *options: str) -> int:
    cache = str(Path(out).with_suffix(".cache"))
    return (
        crop.main([data, "--out", cache, "--maps", "none"])  # goes on where it was stopped
        or train.main([cache, "--out", out, *options])
        or evaluate.main([cache, "--weights", out])  # on the tenth of the groups that did not train
    )


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
