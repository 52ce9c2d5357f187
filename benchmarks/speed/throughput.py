"""python -m benchmarks.speed.throughput: how fast is it on this machine, and what takes the time?

Three questions, on the CPU and on a CUDA device where there is one. Scoring ready crops with the
shipped weights against timm's `efficientnet_b0` at the same size. The stages from a file to its
score, each alone, and `Detector.score(path)` as a whole. Loading training faces from the cache
against decoding and resizing the JPEG files with Pillow. What is compared takes turns in the same
run, so that a busy moment meets both; figures are medians over repetitions with their quartiles.
All compute with one thread, as a worker of a service does.
"""

from __future__ import annotations

import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata, resources
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from benchmarks._harness import Parser, save_result
from ffdetect.models.weights import Checkpoint, load_checkpoint
from ffdetect.scoring.detector import SHIPPED, Detector
from preprocess.cache.faces import CachedFace, CacheSettings
from preprocess.cache.reader import CacheReader
from preprocess.cache.writer import CacheWriter
from preprocess.faces.crop import crop_face, crop_whole
from preprocess.faces.face import CropSettings
from preprocess.io.decode import DecodeError, decode_image
from preprocess.io.sources import find_items
from preprocess.spread import evenly
from preprocess.work.cores import computing

RIVAL = "efficientnet_b0"
_JPEG_SUFFIXES = (".jpg", ".jpeg")
_PACKAGES = (
    "torch",
    "timm",
    "numpy",
    "pillow",
    "opencv-python-headless",
    "pyarrow",
    "facenet-pytorch",
)


@dataclass(frozen=True)
class Effort:
    """How much is measured: files, crops in a batch, and repetitions."""

    files: int = 128
    batch: int = 32
    repetitions: int = 15


QUICK = Effort(files=8, batch=4, repetitions=3)


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
class Comparison:
    """Ours against another way of the same work.

    Attributes:
        ours, other: milliseconds a face.
        speedup: how many times faster ours is: the ratio of each repetition's two times.
    """

    ours: Spread
    other: Spread
    speedup: Spread


def compare(
    ours: Callable[[], object], other: Callable[[], object], faces: int, repetitions: int
) -> Comparison:
    """Time two functions that do `faces` faces each; they take turns, and the first turns too."""
    ours(), other()  # caches, lazy set-up, kernels that are chosen on first use
    times: dict[Callable, list[float]] = {ours: [], other: []}
    for repetition in range(repetitions):
        for function in (ours, other) if repetition % 2 else (other, ours):
            times[function].append(_seconds(function) / faces * 1000)
    ratios = np.array(times[other]) / np.array(times[ours])
    return Comparison(Spread.of(times[ours]), Spread.of(times[other]), Spread.of(ratios))


def _seconds(function: Callable[[], object]) -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    start = time.perf_counter()
    function()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def compare_scoring(detector: Detector, crops: torch.Tensor, repetitions: int) -> Comparison:
    """uint8 crops in memory to probabilities in memory; the rival also normalises its input."""
    import timm

    rival = timm.create_model(RIVAL, num_classes=1).eval().to(detector.device)
    rival = rival.to(memory_format=torch.channels_last)
    mean, std = (
        torch.tensor(rival.pretrained_cfg[name], device=detector.device).view(1, 3, 1, 1)
        for name in ("mean", "std")
    )

    @torch.inference_mode()
    def score_rival() -> np.ndarray:
        x = (crops.to(detector.device).float() / 255 - mean) / std
        logits = rival(x.contiguous(memory_format=torch.channels_last))
        return torch.sigmoid(logits.flatten()).cpu().numpy()

    score_ours = lambda: detector.score_crops(crops, batch_size=len(crops))  # noqa: E731
    return compare(score_ours, score_rival, len(crops), repetitions)


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


def compare_loading(files: Sequence[Path], size: int, effort: Effort) -> Comparison:
    """Crops from a cache against JPEG files that Pillow decodes and resizes to the same size.

    Both end as one uint8 batch N x 3 x size x size, and both read files that the system already
    holds in memory. Pillow's side finds no face; with MTCNN in it the ratio would be far higher.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = CacheSettings(crop=CropSettings(size=size), maps=())
        with CacheWriter(Path(folder, "cache"), settings) as writer:
            for number, file in enumerate(files):
                writer.add([_row(number, decode_image(file).pixels, settings.crop)])
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

        return compare(read, decode, len(files), effort.repetitions)


def _row(number: int, pixels: np.ndarray, crop: CropSettings) -> CachedFace:
    height, width = pixels.shape[:2]
    return CachedFace(
        key=f"{number}#-1#0",
        path=str(number),
        frame=-1,
        face=0,
        target=-1,
        generator="",
        group="",
        split="",
        box=np.zeros(4, np.float32),
        landmarks=np.zeros(10, np.float32),
        probability=1.0,
        source_width=width,
        source_height=height,
        source_format="jpeg",
        jpeg_quality=-1,
        crop=crop_whole(pixels, crop),
    )


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


def write_synthetic(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Made-up photos without a face: smooth shapes and noise, 512 x 512 px, JPEG 90."""
    rng = np.random.default_rng(seed)
    files = []
    for number in range(count):
        small = Image.fromarray(rng.integers(0, 256, (12, 12, 3), np.uint8))
        smooth = np.array(small.resize((512, 512), Image.Resampling.BICUBIC), np.float32)
        noisy = (smooth + rng.normal(0, 6, smooth.shape)).clip(0, 255).astype(np.uint8)
        files.append(folder / f"{number:04d}.jpg")
        Image.fromarray(noisy).save(files[-1], quality=90)
    return files


def machine() -> dict:
    """What the figures depend on: processor, threads, versions."""
    return {
        "cpu": _cpu_model(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in _PACKAGES},
    }


def _cpu_model() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.is_file() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def measure(files: Sequence[Path], effort: Effort, find_faces: bool) -> dict:
    """All three questions: "loading" -> `Comparison`, device -> its scoring and stages."""
    with resources.as_file(resources.files("ffdetect.weights") / SHIPPED["best"]) as file:
        results: dict = {}
        for name in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            device, checkpoint = torch.device(name), load_checkpoint(file)
            size = checkpoint.crop.size
            stages = time_stages(files, checkpoint, device, effort, find_faces)
            pixels = np.random.default_rng(0).integers(0, 256, (effort.batch, 3, size, size))
            crops = torch.from_numpy(pixels.astype(np.uint8))
            scoring = compare_scoring(Detector(checkpoint, device), crops, effort.repetitions)
            results[name] = {"scoring": scoring, "stages": stages}
    return {"loading": compare_loading(files, size, effort), "devices": results}


def table(results: dict) -> str:
    """The results as Markdown tables; every figure with its quartiles."""
    lines = ["| ms a face | ours | other | times faster |", "|---|---|---|---|"]
    for device, found in results["devices"].items():
        lines.append(_compared(f"scoring crops, {device}: other is {RIVAL}", found["scoring"]))
    lines.append(_compared("loading crops: other is JPEG by Pillow", results["loading"]))
    for device, found in results["devices"].items():
        lines += ["", f"| stage, {device} | ms a picture | share |", "|---|---|---|"]
        whole = found["stages"]["all"].median
        lines += [f"| {n} | {s} | {s.median / whole:.0%} |" for n, s in found["stages"].items()]
    return "\n".join(lines)


def _compared(name: str, found: Comparison) -> str:
    return f"| {name} | {found.ours} | {found.other} | {found.speedup} |"


def save(results: dict, about: dict, command: str, out: Path) -> None:
    """Print the tables, and write OUT.json and OUT.md."""
    devices = {
        name: {
            "scoring": asdict(found["scoring"]),
            "stages": {stage: asdict(spread) for stage, spread in found["stages"].items()},
        }
        for name, found in results["devices"].items()
    }
    values = {**about, "loading": asdict(results["loading"]), "devices": devices}
    text = f"{_conditions(about)}\n\n{table(results)}"
    save_result(out, command, values, text)


def _conditions(about: dict) -> str:
    here, effort = about["machine"], about["effort"]
    cuda = f", {here['cuda']}" if here["cuda"] else ""
    packages = ", ".join(f"{name} {version}" for name, version in here["packages"].items())
    return (
        f"{here['cpu']}, {here['threads']} threads{cuda}; Python {here['python']}, {packages}. "
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
