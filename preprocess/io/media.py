"""Files to decoded frames, of pictures or of sound: opening, the stream that players take, and
going on past what is damaged."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

from .formats import HEAD, DecodeError, UnknownFormatError, media_of_content

# FFmpeg also opens play lists, scripts, subtitles and patterns of names; these alone are media.
_CONTAINERS = (
    "mov,mp4,m4a,3gp,matroska,webm,avi,mpeg,mpegts,mpegvideo,asf,flv,ogg,mxf,nut,dv,ivf,gif,apng,"
    "rm,yuv4mpegpipe,h264,hevc,m4v,mjpeg,wav,w64,flac,mp3,aac,aiff,caf,amr,au,"
    "ac3,eac3,tta,wv,voc"
)
_CHUNKS = 1000  # parts of a file that are looked at for lists of names
_LOOK = 500  # packets that tell which streams are stills
_UNREADABLE = 1000  # errors in a row after which a file is read no further
RESTART = 1.0  # seconds that time runs back where another part of a file begins
_STEADY = ("mpegts", "mpeg", "mxf", "ogg", "flac")  # formats in which time passes evenly
_SILENT = ("matroska,webm",)  # in which it does but for silence, of which a sign comes now and then
_TRIM = 0.05  # seconds of sound that are left out where recordings are joined
_SILENCE = 0.5  # seconds between such signs, and more than that
_REGULAR = 8  # equal steps of time after which several of them are a gap
_JITTER = 0.1  # share of a step by which equal ones may differ
_PAUSE = 10.0  # seconds; a longer gap is where another part of a file begins
_END_OF_JPEG, _PADDING = b"\xff\xd9", 16  # within so many bytes of a packet's end, but for zeros
_ONE_TO_ONE = frozenset("h264 hevc mpeg1video mpeg2video".split())  # one frame of each packet
_KEYED = frozenset("flv h263 mpeg4 msmpeg4 msmpeg4v1 msmpeg4v2 wmv1 wmv2".split())  # that begin
# with a key frame and, without one, are decoded all the same


def open_media(path: Path, expected: str) -> Any:
    """FFmpeg's container of a local file; what it is, is read from its bytes.

    Raises:
        UnknownFormatError: none that is expected, by its first bytes.
        DecodeError: no such file, empty, or damaged.
    """
    import av

    try:
        fault = _fault(path)
    except OSError as error:
        fault = f"cannot be read: {error.strerror or error}"
    if fault:
        raise DecodeError(f"expected {expected} but {fault}", path)
    # Play lists inside of other formats could name other files and hosts.
    options = {"protocol_whitelist": "file", "format_whitelist": _CONTAINERS}
    try:
        return av.open(str(path), options=options, metadata_errors="replace")
    except (av.error.FFmpegError, ValueError) as error:  # ValueError: names that are no text
        reason = getattr(error, "strerror", None) or error
        with path.open("rb") as stream:
            known = media_of_content(stream.read(HEAD)) in ("clip", "sound")
        kind = DecodeError if known else UnknownFormatError
        raise kind(f"expected {expected} but it cannot be decoded: {reason}", path) from error


def _fault(path: Path) -> str:
    """Why a path is none to open, "" if it is."""
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "a pipe or device" if path.exists() else "no file"
        return f"got {kind}"
    if not path.stat().st_size:
        return "got an empty file"
    return "its list of names is longer than it" if _promises_too_much(path) else ""


def _promises_too_much(path: Path) -> bool:
    """Whether a list of names in a WAV or AVI says it is longer than the file: FFmpeg would take
    so much memory before it looks."""
    size = path.stat().st_size
    with path.open("rb") as stream:
        if stream.read(4) not in (b"RIFF", b"RF64", b"RIFX"):
            return False
        at = 12
        for _ in range(_CHUNKS):
            stream.seek(at)
            head = stream.read(12)
            length = int.from_bytes(head[4:8], "little")
            if head[:4] == b"LIST" and head[8:] == b"INFO" and length > size:
                return True
            at += 8 + length + length % 2
            if len(head) < 12:
                return False
    return False


def streams(container: Any, kind: str) -> list[Any]:
    """The streams that can be decoded, the one that players take first; cover pictures are none.

    Args:
        kind: "video" or "audio".
    """
    from av.stream import Disposition

    best = container.streams.best(kind)
    stills: set[int] = set()
    usable = [
        stream
        for stream in getattr(container.streams, kind)
        if stream.codec_context is not None
        and stream.time_base
        and not stream.disposition & Disposition.attached_pic
    ]
    if kind == "video" and len(usable) > 1:
        stills = _stills(Path(container.name), [stream.index for stream in usable])
    return sorted(
        usable,
        key=lambda stream: (stream.index in stills, best is None or stream.index != best.index),
    )


def _stills(path: Path, indices: list[int]) -> set[int]:
    """Streams that show one picture where others begin to move: covers that nobody marked."""
    counts = dict.fromkeys(indices, 0)
    with open_media(path, "a clip") as container:
        for packet in islice(packets(container), _LOOK):
            index = getattr(getattr(packet, "stream", None), "index", -1)
            if index in counts:
                counts[index] += packet.size > 0
    most = max(counts.values())
    return {index for index, count in counts.items() if count <= 1 < most}


def skipped(damaged: int, what: str) -> list[str]:
    """A line for people on damaged packets, or none."""
    packets = "packet" if damaged == 1 else "packets"
    return [f"{damaged} damaged {packets} of {what} skipped"] if damaged else []


def packets(container: Any, *chosen: Any) -> Iterator[Any]:
    """The packets of streams, or of all, from where the container stands; at its end an empty one
    for each. In place of what cannot be read comes the error, and then what follows."""
    import av

    # Streams may begin within a broadcast; PyAV does not know of them, and asks for no others here.
    chosen = chosen or tuple(container.streams)
    source, unreadable = container.demux(*chosen), 0
    while unreadable < _UNREADABLE:
        try:
            packet = next(source)
        except (StopIteration, EOFError):
            return
        except IndexError:  # of such a stream
            unreadable += 1
            source = container.demux(*chosen)
        except av.error.FFmpegError as error:
            unreadable += 1
            yield error
            source = container.demux(*chosen)  # a generator that has raised is spent
        else:
            unreadable = 0
            yield packet


class Frames:
    """Iterates over the frames of one stream, leaving out what is damaged.

    Attributes:
        damaged: packets so far that could not be read or decoded, gave no frame though they should
            have, or one that is patched.
        flagged: packets that lost something on their way, as broadcasts know. So are those before
            which a file was cut and joined.
        reason: FFmpeg's for the last damage.
        whole: whether a key frame came since the last damage; what came before it may show parts
            of other frames.
    """

    def __init__(self, container: Any, stream: Any) -> None:
        self._container, self._stream = container, stream
        self.damaged, self.flagged, self.reason, self.whole = 0, 0, "", True
        self._bad: int | None = None  # time stamp of the last damage
        self._started = False  # whether there was a key frame, or should have been
        self._from_start = True
        self._is_jpeg = stream.type == "video" and stream.codec_context.name == "mjpeg"
        self._ends = False  # whether JPEGs have had end marks: some writers leave out all
        self._cut: set[int | None] = set()  # time stamps of JPEGs without one
        self._missing = _Missing(container, stream, from_start=True)
        self._gaps = _Gaps(container, stream)
        self._source = self._run()

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self._source)

    def seek(self, stamp: int) -> None:
        """Go to the key frame before a time stamp, in units of the stream.

        Raises:
            av.error.FFmpegError: it cannot be reached.
        """
        self._container.seek(stamp, stream=self._stream)
        self._missing = _Missing(self._container, self._stream, from_start=False)
        self._gaps = _Gaps(self._container, self._stream)
        self._started = self._from_start = False
        self._source = self._run()

    def _run(self) -> Iterator[Any]:
        import av

        for packet in packets(self._container, self._stream):
            if isinstance(packet, av.error.FFmpegError):
                self._lose(packet.strerror, None)
                continue
            self._missing.sent(packet)
            if packet.is_corrupt:
                self.flagged += 1
                self.whole, self._bad = False, packet.pts
            if self._is_jpeg and packet.size:
                self._look_for_end(packet)
            try:
                frames = packet.decode()
            except av.error.FFmpegError as error:
                if packet.size or not isinstance(error, EOFError):
                    self._lose(error.strerror, packet.pts)
                continue
            for frame in frames:
                self._judge(frame)
                yield frame
        self._count(self._missing.left())

    def _look_for_end(self, packet: Any) -> None:
        """Half a JPEG gives a frame, without an error or a flag."""
        ends = _END_OF_JPEG in bytes(packet).rstrip(b"\0")[-_PADDING:]
        self._ends |= ends
        if self._ends and not ends:
            self._cut.add(packet.pts)

    def _lose(self, reason: str | None, stamp: int | None) -> None:
        self.damaged += 1
        self.reason, self.whole, self._bad = reason or "damaged", False, stamp

    def _judge(self, frame: Any) -> None:
        stamp = frame.pts
        self._count(max(self._missing.came(frame), self._gaps.came(frame)), stamp)
        key = getattr(frame, "key_frame", None)  # None of sound, whose frames all are
        began, self._started = self._started, self._started or key is not False
        if stamp in self._cut:
            self._cut.discard(stamp)
            self._lose("a picture is cut off", stamp)
        elif frame.is_corrupt and (began or key):
            self._lose("a picture is patched", stamp)
        elif frame.is_corrupt:  # what precedes the first key frame may be, in whole files
            self.whole = False
        elif not self._started and self._stream.codec_context.name in _KEYED:
            if self._from_start and self.whole:
                self._lose("it begins without a key frame", stamp)
            self.whole = False
        elif key is not False:
            # Frames come in another order than packets: a key frame may be older than the damage.
            known = stamp is not None and self._bad is not None
            if not known or not 0 <= self._bad - stamp < RESTART / self._stream.time_base:
                self.whole = True

    def _count(self, missing: int, stamp: int | None = None) -> None:
        """Frames that did not come, unless they are the aftermath of an error already counted."""
        if missing and self.whole:
            self.damaged += missing
            self.reason = self.reason or "packets gave no picture"
            # What is missing lies before the frame: one that needs no other is whole.
            self.whole, self._bad = False, None if stamp is None else stamp - 1


class Decoding:
    """Tells from packets where another part of a file begins: there the time of decoding runs back.

    The time at which pictures are shown may run back far without that: over a pause, what is shown
    before it may come after what is shown behind it. It counts where the other is not known; the
    first packets may lack it, and the next then come from before.
    """

    def __init__(self, time_base: Fraction) -> None:
        self._back = round(RESTART / time_base)
        self._newest, self._known = -(2**63), False

    def restarts(self, shown: int, decoded: int | None) -> bool:
        """Args: time stamps of the next packet."""
        if decoded is None and self._known:
            return False
        if decoded is not None and not self._known:
            self._known, self._newest = True, decoded
        now = shown if decoded is None else decoded
        again = now < self._newest - self._back
        self._newest = now if again else max(self._newest, now)
        return again


class _Missing:
    """Finds packets that gave no frame, without an error: some decoders pass over damage so.

    Frames come in order of time, so a time stamp that was sent and lies before that of a frame
    will not come any more. After a jump, what precedes the first key frame is not expected to come.
    """

    def __init__(self, container: Any, stream: Any, *, from_start: bool) -> None:
        self._applies = (
            stream.codec_context.name in _ONE_TO_ONE
            and container.format.name != "avi"  # it has no time stamps, and FFmpeg makes some up
        )
        self._back = round(RESTART / stream.time_base) if self._applies else 0
        self._decoding = Decoding(stream.time_base) if self._applies else None
        self._from_start = from_start
        self._first: int | None = None
        self._parts: deque[set[int]] = deque([set()])  # of files put one after the other
        self._came = -(2**63)

    def sent(self, packet: Any) -> None:
        stamp = packet.pts
        if not self._decoding or stamp is None or not packet.size or packet.is_discard:
            return
        if self._first is None and (packet.is_keyframe or self._from_start):
            self._first = stamp
        if self._first is None:
            return
        if self._decoding.restarts(stamp, packet.dts):
            self._parts.append(set())
            self._first = stamp
        if stamp >= self._first:
            self._parts[-1].add(stamp)

    def came(self, frame: Any) -> int:
        """How many frames before this one did not come."""
        if getattr(frame, "interlaced_frame", False):
            self._applies = False  # two packets may give one frame
        if not self._applies or frame.pts is None:
            return 0
        if frame.pts < self._came - self._back and len(self._parts) > 1:
            self._parts.popleft()
        self._came = frame.pts
        gone = {stamp for stamp in self._parts[0] if stamp < frame.pts}
        self._parts[0] -= gone | {frame.pts}
        return len(gone)

    def left(self) -> int:
        """How many did not come before the end."""
        return sum(map(len, self._parts)) if self._applies else 0


class _Gaps:
    """Finds what was lost before it became a packet, by the time that passes meanwhile, in formats
    in which it passes evenly."""

    def __init__(self, container: Any, stream: Any) -> None:
        name = container.format.name
        self._applies = name in _STEADY or (name in _SILENT and stream.type == "audio")
        self._least = 0.0
        if stream.type == "audio":
            self._least = _TRIM if name in _STEADY else _SILENCE
        self._base = float(stream.time_base)
        self._due: float | None = None  # time of the next frame, in seconds
        self._step = 0.0  # from the frame before to that
        self._regular = 0  # how many came so; pictures do not say how long they are

    def came(self, frame: Any) -> int:
        """How many frames there should have been between this one and the one before."""
        due, usual = self._due, self._step
        time = due if frame.pts is None else frame.pts * self._base
        if not self._applies or time is None:
            return 0
        late = 0.0 if due is None else time - due
        lost, samples = max(round(late / usual), 0) if usual else 0, getattr(frame, "samples", 0)
        if samples:
            self._step = samples / frame.sample_rate
        elif abs(late - lost * usual) <= _JITTER * usual and (not lost or self._regular > _REGULAR):
            self._regular += 1
        else:  # pictures come when they come
            self._step, self._regular, lost = max(usual + late, 0.0), 0, 0
        self._due = time + self._step
        return lost if self._least <= late < _PAUSE else 0
