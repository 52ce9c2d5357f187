"""Label files -> clean rows, and which listed file each of them means.

All columns go through one cleaning: spaces, quotes and byte order marks around a value, and
Unicode's several spellings of a letter (NFC, NFD), never decide anything. What a row says that is
not understood is kept as it was written, so that a report can show it.
"""

from __future__ import annotations

import codecs
import csv
import io
import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING
from urllib.parse import unquote

from .storage import is_remote, reach, read_bytes

if TYPE_CHECKING:
    from .storage import AnyPath

_NAME_COLUMNS = (
    "path img_path img_name video_name image_path image_name video_path file_path filepath "
    "file_name filename file image video name"
).split()
_TARGET_COLUMNS = ("target", "is_fake", "label")
_DELIMITERS = ",;\t|"

_REAL = "real 0real genuine original authentic pristine bonafide false".split()
_FAKE = "fake 1fake deepfake generated synthetic manipulated spoof true".split()
_WORDS = dict.fromkeys(_REAL, 0) | dict.fromkeys(_FAKE, 1)
_MISSING = frozenset(("", "nan", "none", "null", "na", "n/a", "<na>", "-"))
_SPLITS = {
    **dict.fromkeys("train training trainset".split(), "train"),
    **dict.fromkeys("dev devset development val valset valid validation".split(), "dev"),
    **dict.fromkeys("test testset testing eval evaluation".split(), "test"),
}


_PACKED = {
    b"PK\3\4": "a zip archive, as xlsx is",
    b"\x1f\x8b": "a gzip archive",
    b"\xd0\xcf\x11\xe0": "an old spreadsheet (xls)",
    b"PAR1": "Parquet",
}


class LabelError(ValueError):
    """A label file cannot be used at all; the message names it."""


@dataclass(frozen=True)
class Label:
    """One row of a label file.

    Attributes:
        name: of the file, as it is written there.
        target: 1 fake, 0 real, -1 if the row does not say.
        written: the target as it is written there, "" if it is missing.
        generator, group: as written, "" if missing.
        split: "train", "dev", "test", or "" if missing.
    """

    name: str
    target: int
    written: str = ""
    generator: str = ""
    group: str = ""
    split: str = ""


def clean(value: str) -> str:
    """A value without what surrounds it, in Unicode's composed form."""
    value = unicodedata.normalize("NFC", value).strip().strip("\ufeff\u200b").strip()
    if value[:2] == '="' and value[-1] == '"':  # spreadsheets keep a text from being a number
        value = value[1:]
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        return value[1:-1].strip()
    return value.removeprefix("'")  # as they also do by this


def _known(value: str) -> str:
    """A clean value, "" for what programs write where there is none."""
    value = clean(value)
    return "" if value.casefold() in _MISSING else value


def read_target(value: str) -> int:
    """1 fake, 0 real, -1 neither: from 0 and 1 as any number is written, or a word."""
    number = _number(clean(value))
    if number is None:
        return _WORDS.get(re.sub(r"[\s_-]", "", clean(value).casefold()), -1)
    return int(number) if number in (0, 1) else -1


def _number(value: str) -> float | None:
    try:
        return float(value.replace(",", "."))
    except ValueError:
        return None


def clean_splits(values: Sequence[str]) -> list[str]:
    """ "train", "dev" (val, validation), "test" (eval) or "" of every value.

    Raises:
        LabelError: other splits; the message lists them. To guess would be to train on a test.
    """
    cleaned = {value: _known(value) for value in set(values)}
    names = {v: _SPLITS.get(re.sub(r"[\s_-]", "", c.casefold())) for v, c in cleaned.items()}
    unknown = Counter(cleaned[v] for v in values if cleaned[v] and names[v] is None)
    if unknown:
        shown = ", ".join(f"{name!r} ({rows} rows)" for name, rows in unknown.most_common(10))
        more = f" and {len(unknown) - 10} more" if len(unknown) > 10 else ""
        raise LabelError(f"expected splits train, dev (val) or test but got {shown}{more}")
    return [names[value] or "" for value in values]


def read_labels(file: AnyPath) -> list[Label]:
    """The rows of a label file, but those that are empty.

    A table with a header, its fields separated by commas, semicolons, tabs or bars. The first of
    `_NAME_COLUMNS` that there is names the files, the first of `_TARGET_COLUMNS` tells them.

    Raises:
        FileNotFoundError: no such file.
        LabelError: no such table, columns missing, or splits that are not known.
    """
    if not reach(file, file.is_file):
        raise FileNotFoundError(f"{file}: expected a label file")
    try:
        rows = _rows(text_of_table(read_bytes(file)))
        header = [_column(field) for field in next(rows, [])]
        labels = list(_labels(rows, header))
        splits = clean_splits([label.split for label in labels])
    except LabelError as error:
        raise LabelError(f"{file}: {error}") from error
    except (ValueError, OSError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise LabelError(f"{file}: expected a table with a header but got: {reason}") from error
    return [replace(label, split=split) for label, split in zip(labels, splits, strict=True)]


def text_of_table(data: bytes) -> str:
    """UTF-8, or UTF-16 and UTF-32 as spreadsheets write them, with a mark at the start or without.

    Raises:
        LabelError: neither.
    """
    for start, kind in _PACKED.items():
        if data.startswith(start):
            raise LabelError(f"expected a table as text but got {kind}; save it as CSV")
    try:
        return data.decode(_encoding(data))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        got = f"byte 0x{data[error.start]:02x} in line {line}"
        raise LabelError(f"expected UTF-8 or UTF-16 but got {got}; save it as UTF-8") from error


def _encoding(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "utf-32"
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    # A header is of letters that have one byte in UTF-8.
    if data[1:2] == b"\0" and data[:1] != b"\0":
        return "utf-16-le"
    return "utf-16-be" if data[:1] == b"\0" and data[1:2] != b"\0" else "utf-8-sig"


def _rows(text: str) -> Iterator[list[str]]:
    """Rows that hold anything, the header first; a wrong number of fields is left to the caller."""
    # Spreadsheets name their delimiter so.
    text = re.sub(r'^\s*"?sep=."?[ \t,;|]*(\r\n?|\n)', "", text, flags=re.IGNORECASE)
    for delimiter in _DELIMITERS:
        header = next(_parse(text, delimiter), [])
        if _find(_NAME_COLUMNS, header) and _find(_TARGET_COLUMNS, header):
            return _parse(text, delimiter)
    return _parse(text, ",")


def _parse(text: str, delimiter: str) -> Iterator[list[str]]:
    # A quote that is never closed swallows all rows after it, this one too.
    end = "\ue000end of the table\ue000"
    row: list[str] = []
    reader = csv.reader(
        io.StringIO(f"{text}\n{end}", newline=""), delimiter=delimiter, skipinitialspace=True
    )
    for row in reader:
        if any(clean(field) for field in row) and row != [end]:
            yield row
    if row != [end]:
        raise ValueError("a quote that is not closed")


def _column(name: str) -> str:
    return re.sub(r"[\s-]+", "_", clean(name).casefold())


def _find(wanted: Iterable[str], header: Sequence[str]) -> str:
    names = {_column(field) for field in header}
    return next((name for name in wanted if name in names), "")


def _columns(header: list[str]) -> dict[str, int]:
    """Which column holds what.

    Raises:
        ValueError: one is missing, or there twice.
    """
    if not header:
        raise ValueError("an empty file")
    name, target = _find(_NAME_COLUMNS, header), _find(_TARGET_COLUMNS, header)
    if not name or not target:
        raise LabelError(
            "expected columns path (or img_path, img_name, video_name, file ...) and target "
            f"but got {', '.join(header)}"
        )
    found = {
        "name": name,
        "target": target,
        "generator": "generator",
        "group": "group",
        "split": "split",
    }
    for column in found.values():
        if header.count(column) > 1:
            raise LabelError(f"expected one column {column} but got {header.count(column)}")
    return {role: header.index(column) for role, column in found.items() if column in header}


def _labels(rows: Iterator[list[str]], header: list[str]) -> Iterator[Label]:
    columns = _columns(header)
    first, *others = [name for name in _TARGET_COLUMNS if name in header]
    for number, row in enumerate(rows, 2):
        if any(clean(field) for field in row[len(header) :]):
            raise ValueError(f"row {number} with {len(row)} fields under {len(header)} columns")

        def field(role: str, row: list[str] = row) -> str:
            place = columns.get(role, len(row))
            return row[place] if place < len(row) else ""

        written = _known(field("target"))
        if header[columns["target"]] == "label" and _number(written) is not None:
            raise LabelError(
                f"expected words (real, fake) under label but got {written!r}, which means real in "
                "some data sets and fake in others; if 1 is fake, call the column target"
            )
        told = {name: _known(row[at]) for name in others if (at := header.index(name)) < len(row)}
        written, target = _agreed(written, {first: written, **told})
        yield Label(
            name=field("name"),
            target=target,
            written=written,
            generator=_known(field("generator")),
            group=_known(field("group")),
            split=field("split"),
        )


def _agreed(written: str, told: dict[str, str]) -> tuple[str, int]:
    """What several columns say of a file: the first, or the next where it says nothing; 0 and 1
    under `label`, which may mean either, do not count. Where they disagree, all and -1."""
    targets = {
        column: target
        for column, value in told.items()
        if (target := read_target(value)) >= 0
        and not (column == "label" and _number(value) is not None)
    }
    if len(set(targets.values())) > 1:
        return ", ".join(f"{told[column]} in {column}" for column in targets), -1
    if written:
        return written, read_target(written)
    return next(((told[column], target) for column, target in targets.items()), (written, -1))


def join(labels: Sequence[Label]) -> tuple[Label, list[str]]:
    """What the rows of one file say together, and the kinds of problems there are: where they
    disagree the first one counts, but for the target, which then is unknown."""
    problems = ["file labelled twice"] if len(labels) > 1 else []
    targets = {label.target for label in labels} - {-1}
    if len(targets) > 1:
        problems.append("file labelled both real and fake")
    values: dict[str, str] = {}
    for column in ("generator", "group", "split"):
        known = list(dict.fromkeys(value for x in labels if (value := getattr(x, column))))
        if len(known) > 1:
            problems.append(f"file labelled with more than one {column}")
        values[column] = known[0] if known else ""
    target = targets.pop() if len(targets) == 1 else -1
    return replace(labels[0], target=target, **values), problems


class FileIndex:
    """The listed files, by any name that a label may call them.

    Args:
        paths: relative to the root.
        root: the folder that was listed.
    """

    def __init__(self, paths: Iterable[str], root: AnyPath) -> None:
        self._paths = frozenset(paths)
        self._alike: dict[str, list[str]] = {}
        self._by_name: dict[str, list[str]] = {}
        for path in sorted(self._paths):
            self._alike.setdefault(_key(path), []).append(path)
            self._by_name.setdefault(_key(path.rpartition("/")[2]), []).append(path)
        self._roots = [_key(place).split("/") for place in _places(root)]

    def find(self, name: str, folder: str = "", above: str = "") -> str | list[str] | None:
        """The path that a label means: None if there is none, the candidates if several.

        Args:
            name: relative to `folder` or to the root, absolute (here or on another machine, as
                long as the root's folder is part of it), or bare. Case decides where it must.
            folder: below the root, whose files the label file names.
            above: the root's path from where the label file lies.
        """
        if not folder and name in self._paths:
            return name
        for written in _writings(name):
            for candidate in self._spellings(written, folder, above):
                found = self._one(self._alike.get(_key(candidate), []), candidate)
                if found:
                    return found
        # Challenge files name a picture alone, wherever below its folder it lies.
        name = clean(name).replace("\\", "/").removeprefix("./")
        if "/" in name:
            return None
        paths = self._by_name.get(_key(name), [])
        inside = [path for path in paths if not folder or path.startswith(f"{folder}/")]
        same = [path for path in inside if path.rpartition("/")[2] == name]
        inside = same or inside
        return inside[0] if len(inside) == 1 else (inside or None)

    def _spellings(self, name: str, folder: str, above: str) -> Iterator[str]:
        """The name as a path from the root, the likeliest first."""
        yield f"{folder}/{name}" if folder else name
        if above not in ("", "."):
            yield name.removeprefix(f"{above}/")
        parts, keys = name.split("/"), _key(name).split("/")
        for root in self._roots:
            if keys[: len(root)] == root:
                yield "/".join(parts[len(root) :])
        # The same folder, on another machine or seen from another place.
        names = {root[-1] for root in self._roots} - {""}
        for place, key in enumerate(keys[:-1], 1):
            if key in names:
                yield "/".join(parts[place:])

    def _one(self, paths: list[str], candidate: str) -> str | list[str] | None:
        """One of several that differ in case or in how letters are composed."""
        if candidate in self._paths:
            return candidate
        composed = unicodedata.normalize("NFC", candidate)
        same = [path for path in paths if unicodedata.normalize("NFC", path) == composed]
        paths = same or paths
        return paths[0] if len(paths) == 1 else (paths or None)


def _writings(name: str) -> Iterator[str]:
    """A name with forward slashes, as it is written, cleaned, and as it may be meant."""
    cleaned = clean(name)
    yield from (written.replace("\\", "/").removeprefix("./") for written in (name, cleaned))
    for written in (cleaned, unquote(cleaned)):  # %20
        yield posixpath.normpath(written.replace("\\", "/"))  # a//b, a/../b


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).strip().casefold()


def _places(root: AnyPath) -> list[str]:
    """How an absolute path to the root may be written."""
    if is_remote(root):
        return [str(root).rstrip("/")]
    found = (os.path.abspath(str(root)), os.path.realpath(str(root)))  # noqa: PTH100
    return sorted({place.replace("\\", "/").rstrip("/") for place in found})
