"""python -m benchmarks.speed.peer OUT FILE...: the loop that most people write.

Pillow opens, facenet-pytorch's MTCNN with its defaults finds all faces with their landmarks, boxes
are cropped and saved; of clips every frame, decoded by PyAV. Writes what was found to
OUT/faces.json: for every file a list of [frame, box, probability, landmarks].
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from PIL import Image


def frames(file: Path) -> Iterator[Image.Image]:
    """The picture, or all frames of a clip."""
    if file.suffix == ".mp4":
        import av

        with av.open(str(file)) as container:
            container.streams.video[0].thread_type = "AUTO"
            for frame in container.decode(video=0):
                yield frame.to_image()
    else:
        yield Image.open(file).convert("RGB")


def main(out: Path, files: list[Path]) -> None:
    from facenet_pytorch import MTCNN

    mtcnn = MTCNN(keep_all=True)
    found: dict[str, list] = {}
    out.mkdir(parents=True, exist_ok=True)
    for file in files:
        faces = found[str(file)] = []
        for number, image in enumerate(frames(file)):
            boxes, probabilities, landmarks = mtcnn.detect(image, landmarks=True)
            if boxes is None:
                continue
            for face, box in enumerate(boxes):
                left, top, right, bottom = (round(float(edge)) for edge in box)
                crop = image.crop((left, top, right, bottom))
                crop.save(out / f"{file.stem}-{number}-{face}.jpg", quality=95)
                points = landmarks[face].astype(float).tolist()
                faces.append(
                    [number, box.astype(float).tolist(), float(probabilities[face]), points]
                )
    (out / "faces.json").write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
