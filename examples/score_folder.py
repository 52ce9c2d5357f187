"""python examples/score_folder.py FOLDER: faces of a folder's pictures, most suspicious first."""

from __future__ import annotations

import sys
from pathlib import Path

from ffdetect import Detector
from preprocess.io.sources import find_items


def main(folder: Path) -> None:
    detector = Detector.load()
    files = [item.file for item in find_items(folder, media=["picture"]).items]
    scores = detector.score_batch(files, on_error="nan")  # a bad file does not lose the others
    for score, file in sorted(zip(scores, files, strict=True), key=lambda pair: -pair[0]):
        if score == score:  # nan: no face, or no picture
            print(f"{score:.3f} {file.relative_to(folder)}")
    for index, error in scores.errors.items():
        print(f"{files[index].name}: {error}", file=sys.stderr)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
