"""python -m benchmarks.speed.throughput: how fast is it on this machine, and what takes the time?

Four questions, on the CPU and on a CUDA device where there is one. Scoring ready crops with both
shipped weights, beside timm's `efficientnet_b0` on the same crops and the whole of CLIP ViT-B/16 on
224 px, with one thread and with two. How far scores in half precision, where the device computes in
it, are from those in float32. The stages from a file to its score, each alone, and
`Detector.score(path)` as a whole, with one thread, as a worker of a service has. Loading training
faces from the cache against decoding and resizing the JPEG files with Pillow. What is compared
takes turns in the same run, so that a busy moment meets all; figures are medians over repetitions
with their quartiles.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from benchmarks._harness import Parser, machine, made_up_face, save_result
from ffdetect.evaluation.tables import markdown
from ffdetect.models.frozen.pooling import area_resize
from ffdetect.models.weights import Checkpoint, load_checkpoint
from ffdetect.scoring.analysis import together
from ffdetect.scoring.detector import SHIPPED, Detector
from preprocess.cache.faces import CacheSettings
from preprocess.cache.reader import CacheReader
from preprocess.cache.writer import CacheWriter
from preprocess.faces.crop import crop_face, crop_whole
from preprocess.faces.face import CropSettings
from preprocess.io.decode import DecodeError, decode_image
from preprocess.io.sources import find_items
from preprocess.spread import evenly
from preprocess.work.cores import computing

from .precision import compare_precisions, half_precisions, precision_table

RIVALS = {"efficientnet_b0": None, "vit_base_patch16_clip_224": 224}  # side of what they are given
_THREADS = (1, 2)
_JPEG_SUFFIXES = (".jpg", ".jpeg")


@dataclass(frozen=True)
class Effort:
    """How much is measured: files, crops in a batch, and repetitions."""

    files: int = 24
    batch: int = 8
    repetitions: int = 7


QUICK = Effort(files=4, batch=4, repetitions=2)


@dataclass(frozen=True)
class Spread:
    """Median and quartiles over repetitions."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
        return cls(float(median), float(low), float(high))

    def __str__(self) -> str:
        median, low, high = (f"{float(f'{v:.3g}'):g}" for v in (self.median, self.low, self.high))
        return f"{median} [{low}, {high}]"


@dataclass(frozen=True)
class Timing:
    """One of several ways of the same work.

    Attributes:
        milliseconds: a face.
        speedup: how many times as fast as the first way: the ratio of each repetition's times.
    """

    milliseconds: Spread
    speedup: Spread


def take_turns(
    ways: Mapping[str, Callable[[], object]], faces: int, repetitions: int
) -> dict[str, Timing]:
    """Time functions that do `faces` faces each; they take turns, and the first turns too."""
    for way in ways.values():
        way()  # caches, lazy set-up, kernels that are chosen on first use
    times: dict[str, list[float]] = {name: [] for name in ways}
    for repetition in range(repetitions):
        for name in list(ways)[:: 1 if repetition % 2 else -1]:
            times[name].append(_seconds(ways[name]) / faces * 1000)
    first = np.array(times[next(iter(ways))])
    return {n: Timing(Spread.of(own), Spread.of(first / np.array(own))) for n, own in times.items()}


def _seconds(function: Callable[[], object]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def time_scoring(
    device: torch.device, threads: int, batch: int, repetitions: int
) -> dict[str, Timing]:
    """uint8 crops in memory to probabilities in memory, by the rivals and by ours. On a CPU all of
    them compute as many crops at once as ours do, which suits each."""
    ours = {name: Detector.load(name, device, threads=threads) for name in SHIPPED}
    for precision in half_precisions(device):
        half = Detector.load("best", device, precision, threads)
        ours[f"best, {precision}"] = half
    side = ours["best"].crop_settings.size
    pixels = np.random.default_rng(0).integers(0, 256, (batch, side, side, 3), np.uint8)
    crops = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    chunk = together(batch, threads) if device.type == "cpu" else batch
    rivals = {name: _rival(name, side, device) for name, side in RIVALS.items()}

    def score_rival(name: str) -> list[torch.Tensor]:
        return [rivals[name](part.to(device)).cpu() for part in crops.split(chunk)]

    ways: dict[str, Callable[[], object]] = {n: partial(score_rival, n) for n in rivals}
    for name, detector in ours.items():
        ways[name] = partial(detector.score_crops, pixels, batch_size=batch)
    with computing(threads), torch.inference_mode():
        return take_turns(ways, batch, repetitions)


@cache
def _rival(
    name: str, side: int | None, device: torch.device
) -> Callable[[torch.Tensor], torch.Tensor]:
    """uint8 crops -> probabilities; it normalises, and shrinks to `side`, too."""
    import timm

    network = timm.create_model(name, num_classes=1).eval().to(device)
    network = network.to(memory_format=torch.channels_last)
    mean, std = (
        torch.tensor(network.pretrained_cfg[key], device=device).view(1, 3, 1, 1)
        for key in ("mean", "std")
    )

    def score(crops: torch.Tensor) -> torch.Tensor:
        x = crops.float() if side is None else area_resize(crops, side)
        x = ((x / 255 - mean) / std).contiguous(memory_format=torch.channels_last)
        return torch.sigmoid(network(x).flatten())

    return score


def time_stages(
    files: Sequence[Path],
    checkpoint: Checkpoint,
    device: torch.device,
    effort: Effort,
    find_faces: bool,
) -> dict[str, Spread]:
    """Stage -> milliseconds a picture; pictures one by one up to the crop, then in batches. Last
    come their sum, and `Detector.score` of one file after the other.

    Args:
        find_faces: without, nothing is detected and the whole picture is the crop.
    """
    network = checkpoint.network.to(device)
    detector, settings = Detector(checkpoint, device), checkpoint.crop
    finder = detector.face_detector

    def decode() -> None:
        work["pictures"] = [decode_image(file).pixels for file in files]

    def detect() -> None:
        work["faces"] = [finder.largest(pixels) for pixels in work["pictures"]]

    def crop() -> None:
        found = work.get("faces", [None] * len(files))
        crops = [
            crop_face(pixels, own, settings) if own else crop_whole(pixels, settings)
            for pixels, own in zip(work["pictures"], found, strict=True)
        ]
        stack = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2)
        work["batches"] = [batch.to(device) for batch in stack.split(effort.batch)]

    def score() -> None:
        for batch in work["batches"]:
            torch.sigmoid(network(batch)).cpu()

    def whole() -> None:
        for file in files:
            detector.score(file, no_face="nan")

    work: dict[str, list] = {}
    stages = {"decode": decode, "detect": detect, "crop": crop, "network": score}
    if not find_faces:
        del stages["detect"]
    times: dict[str, list[float]] = {name: [] for name in stages}
    wholes = {"score(path)": whole} if find_faces else {}
    times |= {name: [] for name in wholes}
    with torch.inference_mode():
        for repetition in tqdm(range(effort.repetitions + 1), desc=f"stages, {device}"):
            for name, stage in (stages | wholes).items():
                seconds = _seconds(stage)
                if repetition:  # the first warms up
                    times[name].append(seconds / len(files) * 1000)
    times["all"] = [sum(each) for each in zip(*(times[name] for name in stages), strict=True)]
    return {name: Spread.of(times[name]) for name in (*stages, "all", *wholes)}


def time_loading(files: Sequence[Path], size: int, effort: Effort) -> dict[str, Timing]:
    """Crops from a cache against JPEG files that Pillow decodes and resizes to the same size.

    Both end as one uint8 batch N x 3 x size x size, and both read files that the system already
    holds in memory. Pillow's side finds no face; with MTCNN in it the ratio would be far higher.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = CacheSettings(crop=CropSettings(size=size), maps=())
        with CacheWriter(Path(folder, "cache"), settings) as writer:
            for number, file in enumerate(files):
                crop = crop_whole(decode_image(file).pixels, settings.crop)
                writer.add([made_up_face(crop, key=f"{number}#-1#0", path=str(number))])
        reader = CacheReader(Path(folder, "cache"))

        def decode() -> torch.Tensor:
            pictures = []
            for file in files:
                with Image.open(file) as image:
                    resized = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
                pictures.append(np.array(resized))
            return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)

        def read() -> torch.Tensor:
            return reader.crops(range(len(reader)))

        ways = {"JPEG files by Pillow": decode, "cache": read}
        return take_turns(ways, len(files), effort.repetitions)


def choose_files(data: Path, count: int) -> list[Path]:
    """`count` JPEG files that can be read, evenly spread over a folder.

    Raises:
        ValueError: there is none.
    """
    files = [i.file for i in find_items(data).items if i.file.suffix.lower() in _JPEG_SUFFIXES]
    chosen = []
    for index in evenly(np.arange(len(files)), count):
        try:
            decode_image(files[index])
        except DecodeError:
            continue
        chosen.append(files[index])
    if not chosen:
        raise ValueError(f"{data}: expected JPEG pictures but found none that can be read")
    return chosen


def write_synthetic(folder: Path, count: int) -> list[Path]:
    """Made-up photos without a face: smooth shapes and noise, 512 x 512 px, JPEG 90."""
    rng = np.random.default_rng(0)
    files = []
    for number in range(count):
        small = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8))
        smooth = np.array(small.resize((512, 512), Image.Resampling.BICUBIC), np.float32)
        noisy = (smooth + rng.normal(0, 6, smooth.shape)).clip(0, 255).astype(np.uint8)
        files.append(folder / f"{number:04d}.jpg")
        Image.fromarray(noisy).save(files[-1], quality=90)
    return files


def measure(files: Sequence[Path], effort: Effort, find_faces: bool) -> dict[str, dict]:
    """All questions: "loading" and "scoring" -> where -> way -> `Timing`, "precision" -> where ->
    number format -> `Apart`, "stages" -> where -> stage -> `Spread`."""
    scoring, precision, stages = {}, {}, {}
    for name in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        device = torch.device(name)
        for weights, file in SHIPPED.items():
            with resources.as_file(resources.files("ffdetect.weights") / file) as path:
                checkpoint = load_checkpoint(path)
            found = time_stages(files, checkpoint, device, effort, find_faces)
            stages[f"{weights}, {name}"] = found
        for threads in _THREADS if name == "cpu" else (1,):
            where = f"{name}, {threads} thread{'s' * (threads > 1)}" if name == "cpu" else name
            scoring[where] = time_scoring(device, threads, effort.batch, effort.repetitions)
        if find_faces:
            precision[name] = compare_precisions(files, device)
    loading = {"cpu, 1 thread": time_loading(files, checkpoint.crop.size, effort)}
    return {"scoring": scoring, "precision": precision, "stages": stages, "loading": loading}


def table(results: dict[str, dict]) -> str:
    """The results as Markdown tables; every figure with its quartiles."""
    parts = []
    for question in ("scoring", "loading"):
        for where, found in results[question].items():
            first = next(iter(found))
            columns = [f"{question} crops, {where}", "ms a face", f"times as fast as {first}"]
            rows = [[name, own.milliseconds, own.speedup] for name, own in found.items()]
            parts.append(markdown(columns, rows))
    parts += [precision_table(where, own) for where, own in results["precision"].items() if own]
    for where, found in results["stages"].items():
        whole = found["all"].median
        rows = [[n, s, f"{s.median / whole:.0%}"] for n, s in found.items()]
        parts.append(markdown([f"stage, {where}", "ms a picture", "share"], rows))
    return "\n\n".join(parts)


def save(results: dict[str, dict], about: dict, command: str, out: Path) -> None:
    """Print the tables, and write OUT.json and OUT.md."""
    values = {
        question: {
            where: {name: asdict(own) for name, own in found.items()}
            for where, found in by_place.items()
        }
        for question, by_place in results.items()
    }
    save_result(out, command, {**about, **values}, f"{_conditions(about)}\n\n{table(results)}")


def _conditions(about: dict) -> str:
    here, effort = about["machine"], about["effort"]
    cuda = f", {here['cuda']}" if here["cuda"] else ""
    packages = ", ".join(f"{name} {version}" for name, version in here["packages"].items())
    return (
        f"{here['cpu']}{cuda}; Python {here['python']}, {packages}. "
        f"{about['input']}; {effort['repetitions']} repetitions, batches of {effort['batch']}. "
        "Medians with quartiles."
    )


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(str(__doc__))
    parser.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="JPEG pictures with faces (default: made-up ones, in which no face is looked for)",
    )
    parser.add_out()
    parser.add_argument("--quick", action="store_true", help="few files and repetitions")
    args = parser.parse_args(argv)
    effort = QUICK if args.quick else Effort()
    with tempfile.TemporaryDirectory() as folder, computing(1):
        here = machine()
        try:
            if args.data:
                files = choose_files(args.data, effort.files)
                source = f"{len(files)} JPEG files of {args.data}"
            else:
                files = write_synthetic(Path(folder), effort.files)
                source = (
                    f"{len(files)} made-up JPEG files of 512 px; without faces, so not detected"
                )
            results = measure(files, effort, find_faces=args.data is not None)
        except (ValueError, FileNotFoundError) as error:
            parser.error(str(error))
    about = {"input": source, "effort": asdict(effort), "machine": here}
    save(results, about, parser.command(argv), args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
