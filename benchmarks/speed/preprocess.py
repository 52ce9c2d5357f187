"""python -m benchmarks.speed.preprocess FACES: how fast is ffdetect crop, and is it still MTCNN?

Against the loop of `peer.py`, which does less: it writes no cache and survives no damaged file.
Inputs are pictures of FACES, spread over its sources; the same enlarged and padded to 4 to 12
megapixels; clips of CLIPS enlarged and padded to 1080p and 480p, and short ones repeated there and
back, of which both look at every frame. Both run as commands and take turns, round after round: the
peer with one process and with two, of which the better of the first round goes on, ours with its
defaults, which look for the largest face, with `--faces all`, which is what the peer does, and with
both maps. Starting Python and its libraries takes seconds and is measured apart, with a single
small picture; ratios are of the wall clock without it, `CPU` ones of the seconds that the
processors worked: on a machine that others use too these are the ones to trust. Each figure is the
median of the rounds, with the least and the greatest, between which the true median of five rounds
is in 94 % of cases. `floor` is how much of our work decoding is, done alone by one process a core
(`decode.py`): at 1 nothing would be left to gain.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path

import cv2
import numpy as np

from benchmarks._harness import Parser, machine, save_result
from ffdetect.evaluation.tables import markdown
from preprocess.cache.faces import MAPS
from preprocess.faces.detect import FaceDetector
from preprocess.faces.face import Face
from preprocess.faces.search import ClipSearch
from preprocess.io.clips import decode_video, key_frames
from preprocess.io.decode import decode_image
from preprocess.work.cores import cores

from .cost import Cost
from .decode import ALL
from .stages import time_stages

_MEGAPIXELS = (4, 12)
_CLIPS = {"1080p": (1920, 1080), "480p": (854, 480)}
_MIN_FACE, _SURE, _OVERLAP = 40, 0.95, 0.7  # which faces of the peer count, and when one is found
_SHIFT = 0.03  # of the face's width, that landmarks should not be further away


@dataclass(frozen=True)
class Effort:
    """How much is measured: pictures, large pictures, clips of each size, frames of a clip, and
    how often."""

    mixed: int = 500
    large: int = 100
    clips: int = 4
    frames: int = 60
    rounds: int = 5


QUICK = Effort(mixed=6, large=2, clips=2, frames=3, rounds=1)


def spread_files(folder: Path, count: int, suffix: str) -> list[Path]:
    """`count` files of a folder: as many of each sub-folder, as far as they reach."""
    by_folder: dict[Path, list[Path]] = {}
    for file in sorted(folder.rglob(f"*{suffix}")):
        by_folder.setdefault(file.parent, []).append(file)
    if not by_folder:
        raise FileNotFoundError(f"expected {suffix} files in {folder} but found none")
    generator = np.random.default_rng(0)
    queues = [list(generator.permutation(np.array(files, object))) for files in by_folder.values()]
    chosen: list[Path] = []
    while len(chosen) < count and any(queues):
        chosen += [queue.pop() for queue in queues if queue]
    return chosen[:count]


def enlarged(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """Fitted into width x height and padded with its own mirror image."""
    scale = min(width / pixels.shape[1], height / pixels.shape[0])
    size = [max(round(side * scale), 1) for side in pixels.shape[1::-1]]
    pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC)
    x, y = width - size[0], height - size[1]
    return cv2.copyMakeBorder(pixels, y // 2, y - y // 2, x // 2, x - x // 2, cv2.BORDER_REFLECT)


def make_inputs(pictures: Path, clips: Path | None, effort: Effort, out: Path) -> dict[str, Path]:
    """A folder of files for every kind of input; the first is one small picture."""
    files = spread_files(pictures, max(effort.mixed, effort.large), ".jpg")
    _link(files[:1], out / "start")
    _link(files[: effort.mixed], out / "mixed")
    large = out / "large"
    large.mkdir()
    areas = np.linspace(*_MEGAPIXELS, effort.large)
    for number, (file, area) in enumerate(zip(files, areas, strict=False)):
        height = int((area * 1e6 * 3 / 4) ** 0.5)
        pixels = enlarged(decode_image(file).pixels, height * 4 // 3, height)
        cv2.imwrite(str(large / f"{number}.jpg"), pixels[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    for name, (width, height) in _CLIPS.items():
        if clips is None:
            break
        (out / name).mkdir()
        for number, file in enumerate(spread_files(clips, effort.clips, ".mp4")):
            looks = [p.pixels for p in decode_video(file, frames=effort.frames)]
            looks = [enlarged(p, width, height) for p in looks]
            shown = list(islice(cycle(looks + looks[-2:0:-1]), effort.frames))
            _write_clip(out / name / f"{number}.mp4", shown)
    return {folder.name: folder for folder in sorted(out.iterdir(), key=os.path.getmtime)}


def _link(files: Sequence[Path], folder: Path) -> None:
    folder.mkdir()
    for number, file in enumerate(files):
        (folder / f"{number:05}{file.suffix}").symlink_to(file.resolve())


def _write_clip(file: Path, frames: Sequence[np.ndarray]) -> None:
    import av

    with av.open(str(file), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "18"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def run_peer(folder: Path, out: Path, processes: int) -> Cost:
    """Each process does its share of the files, a single one with all threads."""

    def command(number: int, files: Sequence[str]) -> list[str]:
        return ["-m", "benchmarks.speed.peer", str(out / str(number)), *files]

    return _run_shares(folder, processes, command)


def run_decode(folder: Path, out: Path) -> Cost:
    """The floor: one process a core, each with its share of the files."""
    return _run_shares(folder, cores(), lambda _, files: ["-m", "benchmarks.speed.decode", *files])


def _run_shares(
    folder: Path, processes: int, command: Callable[[int, Sequence[str]], list[str]]
) -> Cost:
    files = sorted(map(str, folder.iterdir()))
    commands = [
        [sys.executable, *command(number, files[number::processes])]
        for number in range(min(processes, len(files)))
    ]
    return Cost.of(commands, {"OMP_NUM_THREADS": "1"} if processes > 1 else {})


def run_ours(folder: Path, out: Path, *options: str) -> Cost:
    command = [sys.executable, "-m", "ffdetect", "crop", str(folder), "--out", str(out)]
    return Cost.of([[*command, "--overwrite", "--quiet", *options]])


Costs = dict[str, list[Cost]]
"""Way -> its cost in every round."""


def compare(folders: dict[str, Path], effort: Effort, out: Path) -> dict[str, dict]:
    """What every way costs on every input, all ways taking turns on one input after another."""
    costs: dict[str, Costs] = {name: {} for name in folders}
    processes: dict[str, tuple[int, ...]] = dict.fromkeys(folders, (1, 2))  # of the peer
    for turn in range(effort.rounds):
        for name, folder in folders.items():
            peers = {
                count: run_peer(folder, out / name / f"peer-{count}", count)
                for count in processes[name]
            }
            processes[name] = (min(peers, key=lambda count: peers[count].wall),)
            found = {"peer": Cost.least([*peers.values()]), **_ours(folder, out / name, effort)}
            for way, cost in found.items():
                costs[name].setdefault(way, []).append(cost)
                said = f"{cost.wall:.1f} s, {cost.cpu:.1f} s of work"
                print(f"round {turn + 1}, {name}, {way}: {said}", file=sys.stderr)
    start = costs.pop("start")
    inputs = {}
    for name, ways in costs.items():
        looks = len(list(folders[name].iterdir())) * (effort.frames if name in _CLIPS else 1)
        inputs[name] = {
            "pictures": looks,
            "costs": {way: [asdict(cost) for cost in tries] for way, tries in ways.items()},
            **ratios(ways, start, looks),
        }
    return {
        "start": {way: spread([cost.wall for cost in tries]) for way, tries in start.items()},
        "inputs": inputs,
    }


def _ours(folder: Path, out: Path, effort: Effort) -> dict[str, Cost]:
    every = "--frames", str(effort.frames)
    return {
        "largest": run_ours(folder, out / "largest", *every),
        "all": run_ours(folder, out / "all", *every, "--faces", "all"),
        "with maps": run_ours(folder, out / "maps", *every, "--maps", ",".join(MAPS)),
        "decoding": run_decode(folder, out / "decode"),
    }


def ratios(ways: Costs, start: Costs, looks: int) -> dict[str, dict]:
    """Of one input, without what starting takes: `spread`s over the rounds, way by way."""

    def without_start(way: str, clock: str) -> np.ndarray:
        began = np.median([getattr(cost, clock) for cost in start[way]])
        return np.maximum([getattr(cost, clock) - began for cost in ways[way]], 1e-3)

    wall, cpu = ({way: without_start(way, clock) for way in ways} for clock in ("wall", "cpu"))
    ours = "largest", "all", "with maps"
    return {
        "pictures per second": {way: spread(looks / seconds) for way, seconds in wall.items()},
        "ratio": {way: spread(wall["peer"] / wall[way]) for way in ours},
        "CPU ratio": {way: spread(cpu["peer"] / cpu[way]) for way in ours},
        "floor": {way: spread(cpu["decoding"] / cpu[way]) for way in ours},
    }


def spread(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Median, least and greatest."""
    return {
        "median": float(np.median(values)),
        "least": float(np.min(values)),
        "greatest": float(np.max(values)),
    }


def agreement(out: Path) -> dict[str, float]:
    """What of the peer's faces in pictures, and in every frame of clips, ours finds, and where."""
    detector = FaceDetector()
    wanted = found = new = ours = 0
    errors: list[float] = []
    for file in sorted(out.glob("*/faces.json")):
        for name, peer in json.loads(file.read_text("utf-8")).items():
            for frame, seen in _seen(Path(name), detector).items():
                theirs = [np.array(box) for at, box, *_ in peer if at == frame]
                for at, box, probability, points in peer:
                    left, top, right, bottom = box
                    small = min(right - left, bottom - top) < _MIN_FACE
                    if at != frame or probability < _SURE or small:
                        continue
                    wanted += 1
                    box = np.array(box)
                    near = max(seen, key=lambda face: overlap(face.box, box), default=None)
                    if near is None or overlap(near.box, box) < _OVERLAP:
                        continue
                    found += 1
                    shift = np.linalg.norm(near.landmarks - points, axis=1).mean()
                    errors.append(float(shift / (right - left)))
                ours += len(seen)
                new += sum(all(overlap(face.box, box) < 0.5 for box in theirs) for face in seen)
    return {
        "faces of the peer": wanted,
        "found": found,
        "recall": found / max(wanted, 1),
        "landmark error": float(np.mean(errors)) if errors else float("nan"),
        "landmarks within 3 %": float(np.mean(np.array(errors) <= _SHIFT)),
        "faces of ours": ours,
        "unknown to the peer": new,
    }


def _seen(file: Path, detector: FaceDetector) -> dict[int, list[Face]]:
    """Frame -> faces; a picture is frame 0."""
    if file.suffix != ".mp4":
        return {0: detector.detect(decode_image(file).pixels)}
    search, stream = ClipSearch(detector), key_frames(file, frames=ALL)
    return {k.picture.frame: search.find(k.picture.pixels, k.time, k.shot) for k in stream}


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes."""
    shared = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    return float(shared / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - shared))


def peak_memory(pictures: Path, large: Path, out: Path) -> dict[str, float]:
    """Peak memory of a run's largest process in MiB, on 500, 5,000 and large pictures."""
    files = spread_files(pictures, 500, ".jpg")
    _link(files, out / "500")
    _link([files[i % len(files)] for i in range(5000)], out / "5000")
    folders = {"500": out / "500", "5000": out / "5000", "large": large}
    return {name: run_ours(f, out / f"{name}-cache").peak for name, f in folders.items()}


def report(results: dict) -> str:
    """Markdown tables."""

    def told(found: dict[str, float]) -> str:
        return f"{found['median']:.3g} [{found['least']:.3g}, {found['greatest']:.3g}]"

    def columns(what: str, by_input: dict[str, dict[str, float]], form: str) -> str:
        lines = [
            [name, *(format(found[name], form) for found in by_input.values())]
            for name in next(iter(by_input.values()))
        ]
        return markdown([what, *by_input], lines)

    speed, agreed, stages = results["speed"], results["agreement"], results["stages"]
    ways = list(speed["start"])
    lines = [
        [name, found["pictures"], figure]
        + [told(found[figure][way]) if way in found[figure] else "" for way in ways]
        for name, found in speed["inputs"].items()
        for figure in ("pictures per second", "ratio", "CPU ratio", "floor")
    ]
    start = ", ".join(f"{way} {told(seconds)} s" for way, seconds in speed["start"].items())
    parts = [
        markdown(["input", "pictures", "", *ways], lines),
        f"Start, with one small picture: {start}.",
        columns("agreement", agreed, ".4g"),
        columns("CPU ms a picture, one thread", stages, ".1f"),
    ]
    if "memory" in results:
        peaks = [[name, f"{peak:.0f}"] for name, peak in results["memory"].items()]
        parts.append(markdown(["pictures", "peak memory of a process, MiB"], peaks))
    return "\n\n".join(parts)


def main(argv: Sequence[str] | None = None) -> int:
    full = Effort()
    parser = Parser(str(__doc__))
    add = parser.add_argument
    add("faces", type=Path, metavar="FACES", help="JPEG pictures of faces, a folder a source")
    add("--clips", type=Path, help="mp4 clips with faces; without, no clips are measured")
    add("--mixed", type=int, default=full.mixed, help="pictures (%(default)s)")
    add("--large", type=int, default=full.large, help="large pictures (%(default)s)")
    add("--frames", type=int, default=full.frames, help="frames of each clip (%(default)s)")
    add("--rounds", type=int, default=full.rounds, help="of all ways (%(default)s)")
    add("--memory", action="store_true", help="also measure peak memory, up to 5,000 pictures")
    add("--quick", action="store_true", help="a few pictures only: does it run?")
    parser.add_out("preprocess_speed")
    args = parser.parse_args(argv)
    effort = Effort(args.mixed, args.large, full.clips, args.frames, args.rounds)
    effort = QUICK if args.quick else effort
    with tempfile.TemporaryDirectory() as temporary:
        inputs, out = Path(temporary, "inputs"), Path(temporary, "out")
        inputs.mkdir()
        try:
            folders = make_inputs(args.faces, args.clips, effort, inputs)
        except FileNotFoundError as error:
            parser.error(str(error))
        results: dict = {"speed": compare(folders, effort, out)}
        kinds = [kind for kind in folders if kind != "start"]
        results["agreement"] = {kind: agreement(out / kind / "peer-2") for kind in kinds}
        time_stages(folders["start"], effort.frames, out / "stages")  # loads what loads lazily
        results["stages"] = {
            kind: time_stages(folders[kind], effort.frames, out / "stages") for kind in kinds
        }
        if args.memory:
            results["memory"] = peak_memory(args.faces, folders["large"], Path(temporary))
    about = {"effort": asdict(effort), "machine": machine()}
    counts = ", ".join(f"{count} {what}" for what, count in about["effort"].items())
    text = f"{about['machine']['cpu']}, {os.cpu_count()} cores. {counts}\n\n{report(results)}"
    save_result(args.out, parser.command(argv), {**about, **results}, text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
