"""Files of sound in, windows of samples out: the work of `preprocess.sound`'s worker processes.

They only decode, and import no more than that needs: importing torch takes longer than decoding
many short files. The spectrograms are made by the process that writes the cache.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from preprocess.cache.errors import Failure, attempt
from preprocess.io.formats import SAMPLE_RATE
from preprocess.io.sound import NoSoundError, SoundFormat, SoundReader
from preprocess.io.sources import Item
from preprocess.io.storage import StorageError

if TYPE_CHECKING:
    import pyarrow as pa

    from preprocess.cache.sound import SoundSettings

_SHORTEST = 0.5  # seconds of sound, below which a file gives no row
_SILENCE = 1e-4  # peak, -80 dB of full scale: a file that never rises above it gives no row


@dataclass(frozen=True)
class Heard:
    """The sound of one file.

    Attributes:
        windows: start in seconds and samples of each, int16, 16 kHz mono; the last may be shorter
            than the others.
        format: how the file stores it.
        notes: what was damaged or is missing, for people.
    """

    windows: list[tuple[float, np.ndarray]]
    format: SoundFormat
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.windows)

    def to_table(self, item: Item, settings: SoundSettings) -> pa.Table:
        """With the columns of `SoundSettings.schema`."""
        from preprocess.cache.sound import to_table

        return to_table(item, self.windows, self.format, settings)


Result = Heard | Failure | StorageError


def make_listen(
    seconds: float, most: int
) -> Callable[[Sequence[Item], Callable[[], None]], list[Result]]:
    """The task of a worker process (see `pool.work`): several files a job, as a message to a
    process takes as long as a short file."""

    def listen_all(items: Sequence[Item], alive: Callable[[], None]) -> list[Result]:
        return [listen(item, seconds, most, alive) for item in items]

    return listen_all


def listen(
    item: Item, seconds: float, most: int, alive: Callable[[], None] = lambda: None
) -> Result:
    """At most `most` windows of one file, see `attempt`. Windows without sound among others are
    left out."""

    def read(file: Path) -> Heard:
        with SoundReader(file) as reader:
            chosen = spread_windows(_watched(reader.blocks(seconds), alive), seconds, most)
            if not chosen:
                raise NoSoundError(
                    f"expected at least {_SHORTEST} s of sound but got less, or silence"
                )
            windows = [(start, _stored(block)) for start, block in chosen]
            return Heard(windows, reader.format, tuple(reader.notes()))

    alive()
    return attempt(item, read, alive)


def _watched(blocks: Iterator[np.ndarray], alive: Callable[[], None]) -> Iterator[np.ndarray]:
    for number, block in enumerate(blocks):
        if number:
            alive()
        yield block


def _stored(block: np.ndarray) -> np.ndarray:
    return np.clip(np.round(block * 32767), -32768, 32767).astype(np.int16)


def spread_windows(
    blocks: Iterator[np.ndarray], seconds: float, most: int
) -> list[tuple[float, np.ndarray]]:
    """At most `most` of the blocks, spread evenly, each with its start in seconds.

    How many there will be is not known: whenever twice too many are held, every other is dropped
    and from then on only every other is kept. Silent ones and a short rest do not count.
    """
    held: list[tuple[float, np.ndarray]] = []
    stride, heard = 1, 0
    for number, block in enumerate(blocks):
        if len(block) < _SHORTEST * SAMPLE_RATE or np.abs(block).max() < _SILENCE:
            continue
        if heard % stride == 0:
            held.append((number * seconds, block))
        heard += 1
        if len(held) >= 2 * most:
            held, stride = held[::2], 2 * stride
    count = min(len(held), most)
    return [held[(2 * i + 1) * len(held) // (2 * count)] for i in range(count)]
