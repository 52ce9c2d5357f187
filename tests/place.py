"""A folder in which every snippet of the documents and every example can run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from ffdetect.models.weights import save_checkpoint
from preprocess import crop
from preprocess.faces.face import CropSettings

from .ffdetect.clips import write_talk
from .ffdetect.helpers import tiny_network
from .ffdetect.provenance.files import authority
from .preprocess.sounds import buzz, write_sound

ROOT = Path(__file__).parents[1]


def lay_out(place: Path, astronaut: np.ndarray) -> None:
    """Pictures, clips, sound, labels, two caches, and weights of a tiny random network."""
    (place / "examples").symlink_to(ROOT / "examples")
    portraits = sorted((ROOT / "examples/portraits").glob("*.jpg"))
    rows = ["path,target,generator,split"]
    for number, (portrait, split) in enumerate(zip(portraits, ("train", "test"), strict=False)):
        for kind, made in (("dfdc", False), ("dfdc_swap", True)):
            file = place / "data" / f"{kind}{number}.jpg"
            file.parent.mkdir(exist_ok=True)
            picture = Image.open(portrait) if made else Image.fromarray(astronaut)
            picture.resize((320 + number, 320)).save(file, quality=85)
            rows.append(f"{file.name},{int(made)},{kind},{split}")
    (place / "data/manifest.csv").write_text("\n".join(rows), "utf-8")
    for name in ("portrait.jpg", "portrait.png", "picture.jpg", "group.jpg"):
        Image.open(portraits[0]).save(place / name)
    challenge = place / "phase1"
    (challenge / "valset").mkdir(parents=True)
    for target, portrait in enumerate((place / "data/dfdc0.jpg", portraits[0])):
        (challenge / f"valset/{target}.jpg").write_bytes(portrait.read_bytes())
    (challenge / "valset_label.txt").write_text("img_name,target\n0.jpg,0\n1.jpg,1\n", "utf-8")
    for name in ("testset", "pictures"):
        folder = place / name if name == "pictures" else challenge / name
        folder.symlink_to(challenge / "valset")
    (place / "labels.csv").write_text("path,target\n0.jpg,0\n1.jpg,1\n", "utf-8")
    (place / "prediction.txt").write_text("img_name,y_pred\n0.jpg,0.2\n1.jpg,0.8\n", "utf-8")
    write_talk(place / "talk.mkv", [astronaut] * 6, buzz(0.6))
    for name in ("talk.mp4", "clip.mp4"):  # what it is, its content says
        (place / name).symlink_to(place / "talk.mkv")
    write_sound(place / "speech.wav", buzz(4.0))
    (place / "anchors.pem").write_bytes(authority())
    arguments = [str(place / "data"), "--out", str(place / "cache/test"), "--workers", "0"]
    assert crop.main([*arguments, "--quiet"]) == 0
    save_checkpoint(place / "mine.safetensors", tiny_network(), CropSettings(), {"seed": 0})
