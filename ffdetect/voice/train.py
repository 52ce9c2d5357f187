"""python -m ffdetect.voice.train CACHE MANIFEST --whisper FILE: solve a voice head from a cache of
sound, and calibrate it by folds that leave sources out."""

from __future__ import annotations

import argparse
import hashlib
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ffdetect.evaluation.calibration import operating_points
from ffdetect.models.calibration import Calibration
from ffdetect.models.tensor_file import WeightsError
from preprocess.arguments import check_outputs, finish, new_parser
from preprocess.cache.errors import CacheError

from .features import FeatureCache
from .network import LAYERS, VoiceNetwork, read_pretrained
from .recipes import SHIPPED, VIEWS, Voices, folds_of, held_out_logits


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0; 1 if the cache cannot be used or lacks one of the classes."""
    parser = new_parser(
        "python -m ffdetect.voice.train",
        __doc__,
        "cache/speech manifest.csv --whisper whisper_tiny_encoder.safetensors",
    )
    add_inputs(parser)
    add = parser.add_argument
    add("--out", type=Path, default=Path("voice.safetensors"), help="(%(default)s)")
    args = parser.parse_args(argv)
    try:
        check_outputs({"--out": args.out}, (args.manifest, args.whisper))
    except ValueError as error:
        parser.error(str(error))
    try:
        cache = FeatureCache.open(args.cache, args.manifest, args.whisper, args.work, args.workers)
        voices = Voices(cache.views(VIEWS), cache.table)
        head = SHIPPED.solve(*voices.learnt(np.arange(len(cache.table)), SHIPPED.views))
        calibration = calibrate(voices, held_out_logits(voices, folds_of(voices), SHIPPED)[:, 0])
    except (CacheError, WeightsError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    about = {
        "recordings": {"real": calibration.reals, "fake": calibration.fakes},
        "recipe": asdict(SHIPPED),
        "whisper": hashlib.sha256(args.whisper.read_bytes()).hexdigest(),
    }
    head = head.calibrated(calibration.temperature, calibration.bias)
    network = VoiceNetwork(read_pretrained(args.whisper, LAYERS), head, calibration, about)
    network.save(args.out)
    print(f"{args.out}: solved from {len(cache.table)} recordings in {SHIPPED.views} views")
    return 0


def add_inputs(parser: argparse.ArgumentParser) -> None:
    """What `FeatureCache.open` reads."""
    add = parser.add_argument
    add("cache", type=Path, metavar="CACHE", help="made by preprocess.sound")
    add("manifest", type=Path, metavar="MANIFEST", help="CSV: path, source, group, speaker")
    add("--whisper", type=Path, required=True, metavar="FILE", help="encoder, .safetensors")
    add("--work", type=Path, default=Path("cache/voice.run"), help="keeps features (%(default)s)")
    add("--workers", type=int, default=0, help="processes; 0: in this one (%(default)s)")


def calibrate(voices: Voices, logit: np.ndarray) -> Calibration:
    """What makes probabilities of logits, measured where sources were left out.

    Args:
        logit: float64 N, of heads that knew nothing of a recording's source.
    """
    points = operating_points(voices.target, voices.source, logit)
    return Calibration.measured(points, voices.target, voices.source)


if __name__ == "__main__":
    finish(main)
