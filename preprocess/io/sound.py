"""Bytes to sound: 16 kHz mono samples of clips and audio files, in blocks of any length.

Nothing that a header says is trusted but the sample rate and the channels, which decoding needs:
how long a file is shows when it ends. A block is all that is in memory, so hours are no problem.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .formats import SAMPLE_RATE, DecodeError

_RATES = (1_000, 768_000)  # Hz, of what may come in
_MAX_CHANNELS = 64
_BATCH = 0.5  # seconds of sound converted at once: small frames cost more calls than work

# FFmpeg can also open play lists, subtitles and scripts; only these are sound or clips.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,matroska,webm,avi,mpeg,mpegts,flv,mxf,dv,rm,wav,w64,flac,mp3,ogg,aac,aiff,asf,"
    "amr,caf,au"
)
_EXPECTED = "a clip or an audio file (mp4, mov, mkv, webm, wav, flac, mp3, m4a or ogg)"


class NoSoundError(DecodeError):
    """A clip that can be read but has no audio stream, or a stream of no length."""


@dataclass(frozen=True)
class SoundFormat:
    """How a file stores its sound: for the audit of a data set, never for a network.

    Attributes:
        codec: "flac", "aac", "pcm_s16le" ...; "array" for samples from memory.
        sample_rate: in Hz, before resampling.
        channels: before mixing to one.
    """

    codec: str
    sample_rate: int
    channels: int


class SoundReader:
    """The sound of one file, opened once.

    Args:
        path: a clip or audio file; what it is, is read from its bytes.

    Attributes:
        format: how the file stores it.
        damaged: packets that could not be decoded, and were left out, so far.

    Raises:
        DecodeError: no such file, empty, or neither a clip nor audio.
        NoSoundError: a clip without an audio stream.
    """

    def __init__(self, path: str | Path) -> None:
        import av

        self.path = Path(path)
        if not self.path.is_file() or not self.path.stat().st_size:
            kind = "a folder" if self.path.is_dir() else "no file"
            what = "an empty file" if self.path.is_file() else kind
            raise DecodeError(f"{self.path}: expected {_EXPECTED} but got {what}")
        options = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
        try:
            self._container = av.open(str(self.path), options=options)
        except (av.error.FFmpegError, ValueError) as error:  # ValueError: names that are no text
            reason = getattr(error, "strerror", None) or error
            raise DecodeError(f"{self.path}: expected {_EXPECTED} but got: {reason}") from error
        try:
            if not self._container.streams.audio:
                raise NoSoundError(f"{self.path}: expected sound but it has no audio stream")
            self._stream = self._container.streams.audio[0]
            context = self._stream.codec_context
            if context is None:
                raise DecodeError(f"{self.path}: its audio codec is not known here")
            self.format = SoundFormat(
                context.name, int(context.sample_rate or 0), int(context.channels or 0)
            )
            _check_format(self.format, str(self.path))
        except DecodeError:
            self._container.close()
            raise
        self.damaged = 0

    def blocks(self, seconds: float) -> Iterator[np.ndarray]:
        """Yield the sound from its start: float32, 16 kHz, mono, -1 to 1 (louder is not cut).

        Every block but the last is `seconds` long. Damaged packets are left out; a file whose
        tail is missing yields what is there.

        Raises:
            DecodeError: not one packet can be decoded.
            NoSoundError: the stream holds no sample.
        """
        yield from _cut(self._pieces(), round(seconds * SAMPLE_RATE))

    def _pieces(self) -> Iterator[np.ndarray]:
        import av

        resampler, samples, reason = _Resampler(), 0, ""
        packets = self._container.demux(self._stream)
        while True:
            try:
                packet = next(packets)
                frames = packet.decode()
            except (StopIteration, EOFError):
                break
            except av.error.InvalidDataError as error:
                self.damaged += 1
                reason = error.strerror
                continue
            except av.error.FFmpegError as error:  # the file itself can be read no further
                self.damaged += 1
                reason = error.strerror
                break
            for frame in frames:
                for piece in resampler.convert(frame):
                    samples += len(piece)
                    yield piece
        for piece in resampler.flush():
            samples += len(piece)
            yield piece
        if not samples and self.damaged:
            raise DecodeError(f"{self.path}: expected {_EXPECTED} but no sound in it can be "
                              f"decoded: {reason}")  # fmt: skip
        if not samples:
            raise NoSoundError(f"{self.path}: expected sound but its audio stream is empty")

    def close(self) -> None:
        self._container.close()

    def __enter__(self) -> SoundReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def sound_blocks(samples: np.ndarray, sample_rate: int, seconds: float) -> Iterator[np.ndarray]:
    """Sound from memory as `SoundReader.blocks` gives that of a file.

    Args:
        samples: float -1 to 1 or int16, N or N x channels.
        sample_rate: in Hz.

    Raises:
        DecodeError: another shape or dtype, not one sample, samples that are not finite, or a
            sample rate that no sound has.
    """
    samples, name = np.asarray(samples), "<samples>"
    columns = samples[:, None] if samples.ndim == 1 else samples
    if columns.ndim != 2 or not (
        np.issubdtype(columns.dtype, np.floating) or columns.dtype == np.int16
    ):
        raise DecodeError(
            f"{name}: expected float or int16 samples of shape N or N x channels "
            f"but got {samples.dtype} of shape {samples.shape}"
        )
    _check_format(SoundFormat("array", int(sample_rate), columns.shape[1]), name)
    if not len(columns):
        raise NoSoundError(f"{name}: expected sound but got 0 samples")
    scale = 2.0**-15 if columns.dtype == np.int16 else 1.0
    return _cut(_converted(columns, int(sample_rate), scale), round(seconds * SAMPLE_RATE))


def _converted(columns: np.ndarray, sample_rate: int, scale: float) -> Iterator[np.ndarray]:
    import av

    resampler = _Resampler()
    for start in range(0, len(columns), sample_rate):
        part = columns[start : start + sample_rate].astype(np.float32).mean(1) * scale
        if not np.isfinite(part).all():
            raise DecodeError("<samples>: expected finite samples but got nan or infinity")
        frame = av.AudioFrame.from_ndarray(part[None].astype(np.float32), "fltp", "mono")
        frame.sample_rate = sample_rate
        yield from resampler.convert(frame)
    yield from resampler.flush()


class _Resampler:
    """FFmpeg's, made anew where a stream changes its rate or channels midway."""

    def __init__(self) -> None:
        self._format: tuple | None = None

    def convert(self, frame) -> Iterator[np.ndarray]:
        if _is_ready(frame):
            yield from self.flush()
            yield _plain(frame)
            return
        import av

        now = (frame.format.name, frame.layout.name, frame.sample_rate)
        if now != self._format:
            yield from self.flush()
            self._format = now
            self._inner = av.AudioResampler(
                "fltp", "mono", SAMPLE_RATE, frame_size=round(_BATCH * SAMPLE_RATE)
            )
        frame.pts = None  # wrong time stamps must not move sound
        yield from (part.to_ndarray()[0] for part in self._inner.resample(frame))

    def flush(self) -> Iterator[np.ndarray]:
        if self._format is not None:
            yield from (part.to_ndarray()[0] for part in self._inner.resample(None))
        self._format = None


def _is_ready(frame) -> bool:
    """Nothing to resample or to mix: most files made for speech."""
    return (
        frame.sample_rate == SAMPLE_RATE
        and frame.layout.name == "mono"
        and frame.format.name in ("s16", "s16p", "flt", "fltp")
    )


def _plain(frame) -> np.ndarray:
    samples = frame.to_ndarray().reshape(-1)
    return samples * np.float32(2.0**-15) if samples.dtype == np.int16 else samples


def _cut(pieces: Iterator[np.ndarray], length: int) -> Iterator[np.ndarray]:
    """Pieces of any length as blocks of one length; the last may be shorter."""
    held: list[np.ndarray] = []
    count = 0
    for piece in pieces:
        held.append(piece)
        count += len(piece)
        while count >= length:
            whole = np.concatenate(held)
            yield np.nan_to_num(whole[:length])
            held, count = [whole[length:]], count - length
    if count:
        yield np.nan_to_num(np.concatenate(held))


def _check_format(found: SoundFormat, name: str) -> None:
    low, high = _RATES
    if not low <= found.sample_rate <= high or not 1 <= found.channels <= _MAX_CHANNELS:
        raise DecodeError(
            f"{name}: expected {low} to {high} Hz and 1 to {_MAX_CHANNELS} channels "
            f"but got {found.sample_rate} Hz and {found.channels}"
        )
