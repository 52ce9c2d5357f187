"""A cache of sound -> the features of its windows, as stored and disturbed, kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from ffdetect.evaluation.kept import Store, digest
from preprocess.cache.reader import SoundCache

from .augment import VoiceAugmentation
from .network import FORMAT, LAYERS, read_pretrained, voice_features
from .statistics import WINDOW
from .whisper import WhisperEncoder

Disturbance = Callable[[np.ndarray, int, list[np.ndarray]], np.ndarray]  # samples, row, others
_PART = 32  # rows of one file, so that a stopped run loses little
_OTHERS = 6  # voices of the same source that may murmur behind one


@dataclass(frozen=True)
class FeatureCache:
    """The labelled windows of a cache of sound, and where their features are kept.

    Attributes:
        cache, whisper: the cache of sound, and Whisper's encoder.
        work: folder of features; a name in it says what they were made of.
        samples: SHA-256 of the windows' samples.
        table: N rows of metadata, with the manifest's source, group and speaker.
        rows: int N, where these are in the cache.
        workers: processes; 0 works in this one.
    """

    cache: Path
    whisper: Path
    work: Path
    table: pd.DataFrame
    rows: np.ndarray
    samples: str
    workers: int = 0

    @classmethod
    def open(
        cls, cache: Path, manifest: Path, whisper: Path, work: Path, workers: int = 0
    ) -> FeatureCache:
        """
        Args:
            manifest: CSV with columns path, source, group and speaker.

        Raises:
            CacheError, WeightsError: the cache or Whisper's file cannot be used.
            ValueError: the manifest lacks a column or a file of the cache, a class is absent, or
                windows are of another length than `VoiceDetector` judges.
        """
        read_pretrained(whisper, LAYERS)  # refuses what cannot be used
        sound = SoundCache(cache)
        if sound.settings.seconds != WINDOW:
            raise ValueError(
                f"{cache}: expected windows of {WINDOW:g} s, as voices are judged in, but got "
                f"{sound.settings.seconds:g} s: cache the sound with --seconds {WINDOW:g}"
            )
        table = with_sources(sound.metadata, manifest)
        rows = np.flatnonzero(table["target"] >= 0)
        table = table.iloc[rows].reset_index(drop=True)
        if set(table["target"]) != {0, 1}:
            raise ValueError(f"{cache}: expected real and fake voices but got one class")
        return cls(cache, whisper, work, table, rows, _samples_digest(sound, rows), workers)

    def views(self, count: int) -> np.ndarray:
        """float16 N x count x F: as stored, and then disturbed, each view in its own way."""
        augmentation = VoiceAugmentation()
        names = [f"view-{view}-" + digest(asdict(augmentation))[:12] for view in range(1, count)]
        disturbed = [
            self.read(name, partial(_augment, augmentation, view + 1))
            for view, name in enumerate(names)
        ]
        return np.stack([self.read("stored"), *disturbed], 1)

    def read(
        self, name: str, disturb: Disturbance | None = None, some: np.ndarray | None = None
    ) -> np.ndarray:
        """float16 N x F; parts are kept as they come.

        Args:
            name: says what `disturb` does.
            disturb: of samples, the number of the row, and other voices of the same source.
            some: int, which of the N rows; by default all.
        """
        some = np.arange(len(self.rows)) if some is None else some
        source, parts = self.table["source"].to_numpy(str), []
        task = partial(_features, self.cache, self.whisper, disturb)
        jobs = [(int(self.rows[n]), self.rows[source == source[n]].tolist()) for n in some]
        store = Store(
            self.work,
            format=FORMAT,
            whisper=hashlib.sha256(self.whisper.read_bytes()).hexdigest(),
            samples=self.samples,
            rows=digest([self.rows.tolist(), source.tolist(), some.tolist()]),
        )
        with _mapping(self.workers) as mapped:
            for start in tqdm(range(0, len(jobs), _PART), unit="part", desc=name):
                few = jobs[start : start + _PART]
                parts.append(
                    store.array(f"{name}-{start:06d}", partial(_stacked, mapped, task, few))
                )
        return np.concatenate(parts)


@contextmanager
def _mapping(workers: int) -> Iterator[Callable]:
    if not workers:
        yield map
        return
    alone = (torch.set_num_threads, (1,))  # workers share the cores among themselves
    with ProcessPoolExecutor(workers, get_context("spawn"), *alone) as executor:
        yield executor.map


def with_sources(
    table: pd.DataFrame, manifest: Path, columns: Sequence[str] = ("source", "group", "speaker")
) -> pd.DataFrame:
    """The cache's rows with columns of the manifest, by file name."""
    listed = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    if missing := {"path", *columns} - set(listed):
        raise ValueError(f"{manifest}: expected columns {sorted(missing)} but got {list(listed)}")
    place = pd.Index(_names(listed["path"])).get_indexer(_names(table["path"]))
    if (place < 0).any():
        absent = table["path"][place < 0].iloc[0]
        raise ValueError(f"{manifest}: expected all files of the cache but got none of {absent}")
    own = listed.iloc[place][list(columns)].reset_index(drop=True)
    return table.reset_index(drop=True).assign(**own)


def _names(paths: pd.Series) -> list[str]:
    return [Path(path).name for path in paths]


def _augment(
    augmentation: VoiceAugmentation, view: int, samples: np.ndarray, row: int, others: list
) -> np.ndarray:
    return augmentation.draw(np.random.default_rng([view, row]), others)(samples)


def _features(
    path: Path, whisper: Path, disturb: Disturbance | None, job: tuple[int, list[int]]
) -> np.ndarray:
    cache, (row, peers) = _open(path), job
    samples = _samples(cache, row)
    if disturb:
        known = [peer for peer in peers if peer != row] or peers
        drawn = np.random.default_rng(row).choice(known, min(_OTHERS, len(known)), replace=False)
        samples = disturb(samples, row, [_samples(cache, int(peer)) for peer in drawn])
    with torch.inference_mode():
        return voice_features(_encoder(whisper), torch.from_numpy(samples)).half().numpy()


def _stacked(mapped: Callable, task: Callable, jobs: list) -> np.ndarray:
    return np.stack(list(mapped(task, jobs)))


def _samples_digest(cache: SoundCache, rows: np.ndarray) -> str:
    """SHA-256 of windows and their lengths."""
    whole = hashlib.sha256()
    for row in rows.tolist():
        samples = cache.samples(row)
        whole.update(len(samples).to_bytes(8, "little") + samples.tobytes())
    return whole.hexdigest()


def _samples(cache: SoundCache, row: int) -> np.ndarray:
    return cache.samples(row).astype(np.float32) / 32767


@lru_cache(1)
def _open(cache: Path) -> SoundCache:
    return SoundCache(cache)


@lru_cache(1)
def _encoder(whisper: Path) -> WhisperEncoder:
    return read_pretrained(whisper, LAYERS)
