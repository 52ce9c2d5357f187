"""Bytes to sound: 16 kHz mono samples of clips and audio files, in blocks of any length.

Nothing that a header says is trusted but the sample rate and the channels, which decoding needs:
how long a file is shows when it ends. A block is all that is in memory, so hours are no problem.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .formats import SAMPLE_RATE, DecodeError, is_url
from .media import Frames, open_media, skipped, streams
from .said import SIZED, said_bytes, tells_length
from .video.joined import is_followed

_RATES = (1_000, 768_000)  # Hz, of what may come in
_MAX_CHANNELS = 64
_BATCH = 0.5  # seconds of sound converted at once: small frames cost more calls than work
_BURST = 4.0  # coded sound is louder than that only where it is damaged
_NEAR = 0.2  # seconds between lengths that are the same
_EXPECTED = "a clip or an audio file (mp4, mov, mkv, webm, wav, flac, mp3, m4a or ogg)"


class NoSoundError(DecodeError):
    """A clip that can be read but has no audio stream, or a stream of no length."""

    failure = "no_sound"


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

    Raises:
        DecodeError: no such file, empty, or neither a clip nor audio.
        NoSoundError: a clip without an audio stream.
    """

    def __init__(self, path: str | Path) -> None:
        if is_url(path):
            raise DecodeError("expected a path but got a URL; sound is not fetched", path)
        try:
            self.path = Path(path)
        except TypeError:
            raise DecodeError(f"expected a path but got {type(path).__name__}", "<sound>") from None
        self._container = open_media(self.path, _EXPECTED)
        try:
            self._streams = streams(self._container, "audio")
            if not self._streams:
                if self._container.streams.audio:
                    raise DecodeError("its audio codec is not known here", self.path)
                raise NoSoundError("expected sound but it has no audio stream", self.path)
            self._take(self._streams.pop(0))
        except DecodeError:
            self._container.close()
            raise

    def _take(self, stream: Any) -> None:
        context = stream.codec_context
        self.format = SoundFormat(
            context.name, int(context.sample_rate or 0), int(context.channels or 0)
        )
        if self.format.sample_rate:  # else it has begun so late that its first packet must tell
            _check_format(self.format, str(self.path))
        self._stream, self._end = stream, 0.0
        self._frames = Frames(self._container, stream)

    @property
    def damaged(self) -> int:
        """Packets that could not be decoded, and were left out, so far."""
        return self._frames.damaged

    def notes(self) -> list[str]:
        """What was damaged or is missing, for people, when all blocks were read."""
        lines, said = skipped(self.damaged, "sound"), self._said()
        if said > self._end + _NEAR:
            lines.append(f"the sound ends at {self._end:.1f} s of {said:.1f} s")
        if not self._container.streams.video and is_followed(
            self.path, self._container.format.name
        ):
            lines.append("another recording follows in the file, which players do not play")
        return lines

    def _said(self) -> float:
        """Until when there should be sound, in seconds of the file's time; 0 where it is not known
        or not of the sound alone."""
        container, stream = self._container, self._stream
        name = container.format.name.split(",")[0]
        if name in SIZED:
            return self._end * said_bytes(self.path, name) / self.path.stat().st_size
        if not tells_length(self.path, name):
            return 0.0
        if stream.duration:
            return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
        return 0.0 if container.streams.video else (container.duration or 0) / 1e6

    def blocks(self, seconds: float) -> Iterator[np.ndarray]:
        """Yield the sound from its start: float32, 16 kHz, mono, -1 to 1 (louder is not cut,
        but for what is left where coded sound is damaged).

        Every block but the last is `seconds` long. Damaged packets are left out; a file whose
        tail is missing yields what is there.

        Raises:
            DecodeError: not one packet can be decoded.
            NoSoundError: the stream holds no sample.
        """
        yield from _cut(self._pieces(), round(seconds * SAMPLE_RATE))

    def _pieces(self) -> Iterator[np.ndarray]:
        samples = 0
        while True:
            for piece in self._converted():
                samples += len(piece)
                yield piece if self.format.codec.startswith("pcm_") else piece.clip(-_BURST, _BURST)
            if samples or not self._streams:
                break
            index = self._streams.pop(0).index  # nothing of a stream can be decoded: the next one
            self._container.close()
            self._container = open_media(self.path, _EXPECTED)
            self._take(self._container.streams[index])
        if not samples and self.damaged:
            raise DecodeError(
                f"expected {_EXPECTED} but no sound in it can be decoded: {self._frames.reason}",
                self.path,
            )
        if not samples:
            raise NoSoundError("expected sound but its audio stream is empty", self.path)

    def _converted(self) -> Iterator[np.ndarray]:
        resampler = _Resampler()
        for frame in self._frames:
            if not self.format.sample_rate:
                layout = frame.layout.nb_channels
                self.format = SoundFormat(self.format.codec, frame.sample_rate, layout)
                _check_format(self.format, str(self.path))
            start = self._end if frame.time is None else frame.time
            self._end = start + frame.samples / frame.sample_rate
            yield from resampler.convert(frame)
        yield from resampler.flush()

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
    name, expected = "<samples>", "expected float or int16 samples of shape N or N x channels but"
    try:
        given = np.asarray(samples)
    except (TypeError, ValueError, RuntimeError) as error:  # lists in disorder, some tensors
        raise DecodeError(f"{expected} got {type(samples).__name__}: {error}", name) from error
    columns = given[:, None] if given.ndim == 1 else given
    whole = columns.dtype.kind == "i" and columns.dtype.itemsize == 2  # in any order of bytes
    if columns.ndim != 2 or not (np.issubdtype(columns.dtype, np.floating) or whole):
        raise DecodeError(f"{expected} got {given.dtype} of shape {given.shape}", name)
    try:
        rate = round(float(sample_rate))
    except (TypeError, ValueError, OverflowError):
        raise DecodeError(f"expected a sample rate in Hz but got {sample_rate!r}", name) from None
    _check_format(SoundFormat("array", rate, columns.shape[1]), name)
    if not len(columns):
        raise NoSoundError("expected sound but got 0 samples", name)
    scale = 2.0**-15 if whole else 1.0
    return _cut(_converted(columns, rate, scale), round(seconds * SAMPLE_RATE))


def _converted(columns: np.ndarray, sample_rate: int, scale: float) -> Iterator[np.ndarray]:
    import av

    resampler, opposed = _Resampler(), _Opposed()
    for start in range(0, len(columns), sample_rate):
        channels = columns[start : start + sample_rate].T.astype(np.float32) * np.float32(scale)
        part = channels[0] if opposed.follow(channels) else channels.mean(0)
        if not np.isfinite(part).all():
            raise DecodeError("expected finite samples but got nan or infinity", "<samples>")
        frame = av.AudioFrame.from_ndarray(part[None].astype(np.float32), "fltp", "mono")
        frame.sample_rate = sample_rate
        yield from resampler.convert(frame)
    yield from resampler.flush()


class _Resampler:
    """FFmpeg's, made anew where a stream changes its rate or channels midway."""

    def __init__(self) -> None:
        self._format: tuple | None = None
        self._inner: _Filter | None = None
        self._mixed_here = False
        self._opposed = _Opposed()

    def convert(self, frame) -> Iterator[np.ndarray]:
        import av

        if frame.layout.nb_channels == 2 and self._opposed.follow(_channels(frame, every=8)):
            frame = _mono_frame(_channels(frame)[:1], frame.sample_rate)
        now = (frame.format.name, frame.layout.name, frame.sample_rate)
        if now != self._format:
            yield from self.flush()
            self._format, self._inner = now, None
            self._mixed_here = False
        try:
            if self._mixed_here:
                frame = _mono_frame(_channels(frame), frame.sample_rate)
            self._inner = self._inner or _Filter(frame)
        except av.ArgumentError:  # FFmpeg mixes no more channels than it has names for
            if frame.format.is_planar:  # whose channels PyAV cannot be trusted to find
                self._format = None
                return
            self._mixed_here = True
            frame = _mono_frame(_channels(frame), frame.sample_rate)
            self._inner = _Filter(frame)
        yield from self._inner.convert(frame)

    def flush(self) -> Iterator[np.ndarray]:
        if self._inner is not None:
            yield from self._inner.convert(None)
        self._format = self._inner = None


class _Filter:
    """FFmpeg's filter to 16 kHz mono, of frames like the first. PyAV's `AudioResampler` starts a
    thread for every core, which takes longer than most files, and mixes channels to their sum:
    here those that are alike are as loud as one.

    Raises:
        av.ArgumentError: it cannot mix such channels.
    """

    def __init__(self, frame) -> None:
        import av

        self._none_left = av.BlockingIOError, av.EOFError
        self._graph = av.filter.Graph()
        with contextlib.suppress(AttributeError):  # of older versions
            self._graph.threads = 1
        filters = [
            self._graph.add(
                "abuffer",
                sample_rate=str(frame.sample_rate),
                sample_fmt=frame.format.name,
                channel_layout=frame.layout.name,
            ),
            self._graph.add(
                "aresample", osr=str(SAMPLE_RATE), osf="fltp", ochl="mono", rematrix_maxval="1"
            ),
            self._graph.add("abuffersink"),
        ]
        self._graph.link_nodes(*filters).configure()
        self._graph.set_audio_frame_size(round(_BATCH * SAMPLE_RATE))
        self._held, self._enough = 0, _BATCH * frame.sample_rate  # samples: to ask costs an error

    def convert(self, frame) -> Iterator[np.ndarray]:
        """What is ready after this frame; after None, the rest."""
        if frame is not None:
            frame.pts = None  # wrong time stamps must not move sound
            self._held += frame.samples
        self._graph.push(frame)
        if frame is not None and self._held < self._enough:
            return
        self._held = 0
        while True:
            try:
                part = self._graph.pull()
            except self._none_left:
                return
            yield part.to_ndarray()[0]


def _channels(frame, every: int = 1) -> np.ndarray:
    """float32 channels x samples, -1 to 1; of `every` samples one."""
    samples = frame.to_ndarray()
    if not frame.format.is_planar:
        samples = samples.reshape(-1, frame.layout.nb_channels).T
    samples = samples[:, ::every]
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - 128) * np.float32(2.0**-7)
    whole = np.issubdtype(samples.dtype, np.integer)
    scale = 1 / -float(np.iinfo(samples.dtype).min) if whole else 1.0
    return (samples * scale).astype(np.float32)


class _Opposed:
    """Tells where two channels cancel out: one is the other's negative, as behind a cable that was
    wired the wrong way round, and next to nothing is left of both in their mean."""

    def __init__(self) -> None:
        self._power = self._product = 0.0

    def follow(self, channels: np.ndarray) -> bool:
        """Whether they do, in these samples and those before; float32 channels x samples."""
        if len(channels) != 2:
            return False
        left, right = channels
        # What was before fades: coded sound begins with frames in which they do not yet.
        self._power = 0.9 * self._power + float(left @ left + right @ right)
        self._product = 0.9 * self._product + float(left @ right)
        return self._product < -0.45 * self._power  # a twentieth of the power is left


def _mono_frame(channels: np.ndarray, sample_rate: int):
    import av

    mono = channels.mean(0, keepdims=True)
    frame = av.AudioFrame.from_ndarray(mono, "fltp", "mono")
    frame.sample_rate = sample_rate
    return frame


def _cut(pieces: Iterator[np.ndarray], length: int) -> Iterator[np.ndarray]:
    """Pieces of any length as blocks of one length; the last may be shorter."""
    held: list[np.ndarray] = []
    count = 0
    for piece in pieces:
        held.append(piece)
        count += len(piece)
        while count >= length:
            whole = np.concatenate(held)
            yield _finite(whole[:length])
            held, count = [whole[length:]], count - length
    if count:
        yield _finite(np.concatenate(held))


def _finite(samples: np.ndarray) -> np.ndarray:
    return np.nan_to_num(samples, posinf=0.0, neginf=0.0)


def _check_format(found: SoundFormat, name: str) -> None:
    low, high = _RATES
    if not low <= found.sample_rate <= high or not 1 <= found.channels <= _MAX_CHANNELS:
        raise DecodeError(
            f"expected {low} to {high} Hz and 1 to {_MAX_CHANNELS} channels "
            f"but got {found.sample_rate} Hz and {found.channels}",
            name,
        )
