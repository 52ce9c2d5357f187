"""Names and limits that several files share, so that they can be read without the libraries that
do the work: importing torch takes longer than cropping many faces."""

from __future__ import annotations

import codecs
import re

SAMPLE_RATE = 16_000  # Hz, of all sound
FFT, WINDOW, HOP = 512, 400, 160  # samples
MEL_BANDS = 80
HIGH_BANDS = 128  # bins of 31.25 Hz from 4 kHz up, where vocoders leave traces

IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .pjpeg .pjp .mpo .png .apng .webp .bmp .dib .tif .tiff .gif .avif "
    ".avifs .heic .heics .heif .heifs .hif .jp2 .j2k .j2c .jpc .jpf .jpx .jxl .ppm .pgm .pbm .pnm "
    ".pfm .qoi .tga".split()
)
VIDEO_SUFFIXES = frozenset(
    ".mp4 .m4v .mov .qt .avi .divx .mkv .webm .mpg .mpeg .mpe .m2v .3gp .3g2 .ts .mts .m2t .m2ts "
    ".wmv .asf .flv .f4v .ogv .ogm .vob .mxf .dv .y4m .rm .rmvb .mk3d .m1v .mp2v .ivf .nut "
    ".mjpg .mjpeg .h264 .264 .h265 .265 .hevc".split()
)
AUDIO_SUFFIXES = frozenset(
    ".wav .flac .mp3 .mp2 .mpga .m4a .m4b .aac .ogg .oga .opus .spx .wma .aif .aiff .aifc .amr "
    ".caf .au .w64 .mka .weba .ac3 .eac3 .tta .wv .voc".split()
)
_MEDIA = {
    **dict.fromkeys(IMAGE_SUFFIXES, "picture"),
    **dict.fromkeys(VIDEO_SUFFIXES, "clip"),
    **dict.fromkeys(AUDIO_SUFFIXES, "sound"),
}
# Neither; they need not be opened to know. A camera's raw file would pass for a TIFF.
OTHER_SUFFIXES = frozenset(
    ".txt .csv .tsv .json .jsonl .md .rst .xml .yaml .yml .html .htm .log .py .ipynb .sh .srt .vtt "
    ".npy .npz .mat .h5 .hdf5 .pkl .pt .pth .ckpt .safetensors .onnx .arrow .parquet .feather .db "
    ".sqlite .lmdb .zip .tar .gz .tgz .bz2 .xz .7z .rar .pdf .doc .docx .xls .xlsx .ppt .pptx .svg "
    ".eps .ai .psd .ico .dng .cr2 .cr3 .nef .nrw .arw .orf .rw2 .raf .exe .dll .so .ini .lock .tmp "
    ".md5 .sha256 .url .lnk".split()
)
_MAYBE_TEXT = frozenset((".ts", ".mts"))  # MPEG transport streams, and TypeScript

HEAD = 1024  # bytes of a file that `media_of_content` wants
_FTYP = {
    **dict.fromkeys(
        "avif avis heic heix heim heis hevc hevx hevm hevs mif1 msf1".split(), "picture"
    ),
    **dict.fromkeys(("M4A ", "M4B ", "M4P "), "sound"),
    "crx ": "",  # a camera's raw file
}
_LAYERS = bytes.fromhex("e2e3 f2f3f4f5 fafbfcfd")  # of MPEG's sound, after 0xFF
_STARTS = {
    "picture": (
        b"\xff\xd8\xff",  # JPEG
        b"\x89PNG\r\n\x1a\n",
        b"qoif",
        *(b"GIF87a", b"GIF89a"),
        *(b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),  # TIFF
        *(b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),  # JPEG 2000
        *(b"\0\0\0\x0cJXL \r\n\x87\n", b"\xff\x0a"),  # JPEG XL
    ),
    "clip": (
        b"FLV\x01",
        b".RMF",
        b"YUV4MPEG2 ",
        b"DKIF",
        b"nut/multimedia container\0",
        b"\x1a\x45\xdf\xa3",  # Matroska, WebM
        *(b"\0\0\x01\xba", b"\0\0\x01\xb3"),  # MPEG
        b"\x30\x26\xb2\x75\x8e\x66\xcf\x11",  # ASF: wmv
        b"\x06\x0e\x2b\x34\x02\x05\x01\x01\x0d\x01\x02",  # MXF
    ),
    "sound": (
        b"fLaC",
        b"ID3",
        b"#!AMR",
        b"caff",
        b".snd",
        b"TTA1",
        b"Creative Voice File\x1a",
        *(b"\xff\xf1", b"\xff\xf9"),  # AAC
        *(bytes((0xFF, second)) for second in _LAYERS),  # MP3, MP2
        b"riff\x2e\x91\xcf\x11",  # Wave64
        b"\x0bw",  # AC-3
        b"wvpk",  # WavPack
    ),
}
_CHUNKED = {
    **{b"WEBP": "picture", b"AVI ": "clip"},
    **dict.fromkeys((b"WAVE", b"AIFF", b"AIFC"), "sound"),
}  # RIFF and IFF, by what they say they hold

_URL = re.compile(r"[a-z][a-z0-9+.-]+:/", re.IGNORECASE)  # a drive is one letter
_NETPBM = re.compile(rb"P[1-6]\s+(#|\d)")
_BITMAP = re.compile(rb"BM.{4}\0{4}.{4}[\x0c\x28\x34\x38\x40\x6c\x7c]\0{3}", re.DOTALL)


def media_of_name(name: str) -> str:
    """ "picture", "clip" or "sound", "" where the name's ending does not tell."""
    return _MEDIA.get(_suffix(name), "")


def media_of_content(head: bytes) -> str:
    """ "picture", "clip" or "sound" by how a file begins, "" for anything else.

    What this tells is what to try; whether it can be decoded shows when it is.

    Args:
        head: the first `HEAD` bytes, or all of a shorter file.
    """
    for media, starts in _STARTS.items():
        if head.startswith(starts):
            return media
    if head[:4] in (b"RIFF", b"FORM"):
        return _CHUNKED.get(head[8:12], "")
    if head[4:8] == b"ftyp":
        return _FTYP.get(head[8:12].decode("latin-1"), "clip")
    if head[4:8] in (b"moov", b"mdat", b"wide", b"free", b"skip"):  # QuickTime before "ftyp"
        return "" if is_text(head) else "clip"
    if head[:4] == b"OggS":
        return "clip" if b"\x80theora" in head else "sound"
    if b"GGG" in (head[0:377:188], head[4:389:192]):  # packets of a transport stream
        return "clip"
    if _NETPBM.match(head) or _BITMAP.match(head):
        return "picture"
    return ""


def is_other(name: str) -> bool:
    """Whether a name alone says that a file is no picture, clip or sound."""
    return _suffix(name) in OTHER_SUFFIXES


def may_be_text(name: str) -> bool:
    """Whether a name is that of a clip, or of a text."""
    return _suffix(name) in _MAYBE_TEXT


def is_url(path: object) -> bool:
    """Whether what should be a path is a URL, of which `Path` makes another one."""
    return isinstance(path, str) and bool(_URL.match(path))


def is_text(head: bytes) -> bool:
    """Whether bytes read like text; a letter may be cut at their end."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return b"\0" not in head and b"\x1b" not in head


def _suffix(name: str) -> str:
    stem, dot, ending = name.rpartition(".")
    return f".{ending.lower()}" if dot and stem.strip(".") else ""


# What code raises on JSON or tensors of another shape than it expects: names and numbers that are
# missing, of another type, too large for a float, or nested too deep.
DAMAGED = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RuntimeError)


class FileError(ValueError):
    """Something is wrong with a file, or with what was given instead of one.

    Attributes:
        reason: what was expected, and what was there instead.
        name: what messages call the input, such as its path; "" if that is not known here.
    """

    def __init__(self, reason: str, name: object = "") -> None:
        super().__init__(reason, name)
        self.reason, self.name = reason, str(name)

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}" if self.name else self.reason


class DecodeError(FileError):
    """The input is not a picture, clip or sound that can be read.

    Attributes:
        failure: the kind under which a cache lists such a file.
    """

    failure = "unreadable"


class UnknownFormatError(DecodeError):
    """The input is of another kind than what was expected, or of none that is read."""


class TooLargeError(DecodeError):
    """The input would decode to more than the limit."""
