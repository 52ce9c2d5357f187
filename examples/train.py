"""python examples/train.py DATA OUT.safetensors [OPTION ...]: from pictures to weights of your own.

DATA has folders real/ and fake/, or a label file (docs/labels.md). OPTIONs are those of
`ffdetect train`, such as --backbone resnet18 --epochs 5.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main(data: Path, out: Path, *options: str) -> None:
    cache = out.with_suffix(".cache")
    for command in (
        ["crop", data, "--out", cache, "--maps", "none"],  # goes on where it was stopped
        ["train", cache, "--out", out, *options],
        ["evaluate", cache, "--weights", out],  # on the tenth of the groups that did not train
    ):
        subprocess.run([sys.executable, "-m", "ffdetect", *map(str, command)], check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
