"""Folders, label files and clips -> a list of `Item`: what to read, and what is known of it.

Labels come from the first of these that there is: a file given by the user, a `manifest.csv`, a
challenge's `NAME_label.txt` beside its folder `NAME`, or folders named real and fake. Whatever
does not fit together is counted and named, never silently dropped.
"""

from __future__ import annotations

import io
import os
import re
import zlib
from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from .decode import IMAGE_SUFFIXES
from .formats import VIDEO_SUFFIXES
from .storage import as_path, is_remote, names_in, reach, read_bytes, walk

if TYPE_CHECKING:
    import pandas as pd

    from .storage import AnyPath

_FOLDER_TARGETS = {"real": 0, "0_real": 0, "fake": 1, "1_fake": 1}
_NAME_COLUMNS = ("path", "img_path", "img_name", "video_name")
_CHALLENGE_SPLITS = {"trainset": "train", "valset": "dev", "testset": "test"}


class LabelError(ValueError):
    """A label file cannot be used at all; the message names it."""


@dataclass(frozen=True)
class Item:
    """One source file.

    Attributes:
        file: where it is.
        path: relative to the data root, with forward slashes; its name in caches and reports.
        target: 1 fake, 0 real, -1 unknown.
        generator: which generator or real source, "" if unknown.
        group: what must stay on one side of a split; the path itself if nothing better is known.
        split: "train", "dev", ... as labelled, "" if unknown.
    """

    file: AnyPath
    path: str
    target: int = -1
    generator: str = ""
    group: str = ""
    split: str = ""

    @property
    def is_video(self) -> bool:
        return self.file.suffix.lower() in VIDEO_SUFFIXES


@dataclass
class Listing:
    """The items of a data root, sorted by path, and everything that did not fit.

    Attributes:
        items: every picture and clip found.
        labels_from: the files or rule that gave the labels.
        problems: kind of problem -> the names concerned.
    """

    items: list[Item]
    labels_from: list[str] = field(default_factory=list)
    problems: dict[str, list[str]] = field(default_factory=dict)

    def note(self, kind: str, name: str) -> None:
        self.problems.setdefault(kind, []).append(name)

    def report(self, examples: int = 3) -> str:
        """What was found, in a few lines for people."""
        counts = Counter(item.target for item in self.items)
        origin = ", ".join(self.labels_from) or "none found"
        lines = [
            f"{len(self.items)} files: {counts[0]} real, {counts[1]} fake, "
            f"{counts[-1]} without a label (labels: {origin})"
        ]
        for kind, names in sorted(self.problems.items()):
            shown = ", ".join(repr(name) for name in names[:examples])
            more = f" and {len(names) - examples} more" if len(names) > examples else ""
            lines.append(f"  {kind}: {len(names)} ({shown}{more})")
        return "\n".join(lines)


def find_items(
    data: str | AnyPath,
    labels: str | AnyPath | None = None,
    suffixes: Set[str] = IMAGE_SUFFIXES | VIDEO_SUFFIXES,
) -> Listing:
    """List every picture and clip of a folder (at any depth) or a single file, with labels.

    Args:
        suffixes: of the files to list in a folder, in lower case; pictures and clips by default.

    Raises:
        FileNotFoundError: `data` or `labels` does not exist.
        LabelError: a label file without the columns it needs.
        StorageError: `data` is a URL and cannot be reached.
    """
    data = as_path(data)
    if not reach(data, data.exists):
        raise FileNotFoundError(f"{data}: expected a picture, a clip or a folder of these")
    is_folder = reach(data, data.is_dir)
    root = data if is_folder else data.parent
    listing = Listing([])
    for file, path in _walk(root, listing, suffixes) if is_folder else [(data, data.name)]:
        path = printable(path)
        listing.items.append(Item(file, path, group=path))
    listing.items.sort(key=lambda item: item.path)
    if labels is not None:
        tables = [(as_path(labels), "")]
    else:
        tables = _find_tables(root, listing.items if is_folder else [])
    if tables:
        _label_by_tables(listing, tables, root, single=not is_folder)
    else:
        _label_by_folders(listing)
    return listing


@dataclass(frozen=True)
class Shard:
    """One of several parts of a data set, chosen by a hash of each file's path.

    By path and not by group: it needs no labels, stays the same when files are added, and one
    large group cannot make one shard large. A clip is one file, so its frames stay together;
    groups count only when the merged caches are split for training.

    Attributes:
        index: 1 to `count`.
        count: into how many parts.
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """From "2/4", the second of four.

        Raises:
            ValueError: no such text, or the index is not among 1 to the count.
        """
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise ValueError(f"expected a shard of 1/N to N/N but got {text!r}")
        return cls(int(match[1]), int(match[2]))

    def choose(self, items: Sequence[Item]) -> list[Item]:
        """The items of this shard, in order."""
        return [
            item for item in items if zlib.crc32(item.path.encode()) % self.count == self.index - 1
        ]


def printable(name: str) -> str:
    """A name that any encoder takes; bytes that are no text are shown escaped."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _walk(root: AnyPath, listing: Listing, suffixes: Set[str]):
    def unreadable(error: OSError) -> None:
        listing.note("folder that cannot be read", str(error.filename))

    for file, path in walk(root, unreadable):
        if PurePosixPath(path).suffix.lower() in suffixes:
            yield file, path


def _find_tables(root: AnyPath, items: Sequence[Item]) -> list[tuple[AnyPath, str]]:
    """Label files with the folder (relative to the root) whose files they name."""
    inside = names_in(root)
    above = names_in(root.parent) if root.parent != root else []
    for folder, names in ((root, inside), (root.parent, above)):
        if "manifest.csv" in names:
            return [(folder / "manifest.csv", "")]
    if f"{root.name}_label.txt" in above:
        return [(root.parent / f"{root.name}_label.txt", "")]
    folders = sorted({item.path.split("/")[0] for item in items if "/" in item.path})
    return [(root / f"{f}_label.txt", f) for f in folders if f"{f}_label.txt" in inside]


def _label_by_tables(
    listing: Listing, tables: list[tuple[AnyPath, str]], root: AnyPath, single: bool
) -> None:
    labels: dict[str, dict] = {}
    known = {item.path for item in listing.items}
    by_name: dict[str, list[str]] = {}
    for path in known:
        by_name.setdefault(PurePosixPath(path).name, []).append(path)
    for file, folder in tables:
        listing.labels_from.append(printable(str(file)))
        # A manifest above the data root names its files from there; cut that part off.
        above = _below(root, file.parent)
        for name, row in _read_table(file):
            path = _match(name, folder, above, known, by_name)
            if isinstance(path, list):
                listing.note("label that fits several files", name)
            elif path is None:
                # A manifest above the data root also lists files outside of it.
                elsewhere = above not in ("", ".") and not name.startswith(f"{above}/")
                if not single and not (_is_manifest(file) and elsewhere):
                    listing.note("label without a file", name)
            elif path in labels:
                listing.note("name labelled twice", name)
                if labels[path]["target"] != row["target"]:
                    labels[path]["target"] = -1
            else:
                labels[path] = row
                if row["target"] == -1:
                    listing.note("target that is not 0 or 1", name)
                if folder and not row["split"]:
                    row["split"] = _CHALLENGE_SPLITS.get(folder, "")
                elif not row["split"] and not _is_manifest(file):
                    row["split"] = _CHALLENGE_SPLITS.get(root.name, "")
    for index, item in enumerate(listing.items):
        row = labels.get(item.path)
        if row is None:
            listing.note("file without a label", item.path)
        else:
            row = {**row, "group": row["group"] or item.group}
            listing.items[index] = replace(item, **row)


def _below(root: AnyPath, folder: AnyPath) -> str:
    """The root's path from a folder above it, "." if it is the folder, "" for any other."""
    if not is_remote(root):
        return root.relative_to(folder).as_posix() if root.is_relative_to(folder) else ""
    inside, outside = (f"{str(path).rstrip('/')}/" for path in (root, folder))
    if not inside.startswith(outside):
        return ""
    return inside.removeprefix(outside).rstrip("/") or "."


def _is_manifest(file: AnyPath) -> bool:
    return file.name == "manifest.csv"


def _match(name: str, folder: str, above: str, known: set[str], by_name: dict[str, list[str]]):
    """The known path a label means: None if there is none, the candidates if there are several."""
    name = name.replace("\\", "/").removeprefix("./")
    for candidate in (f"{folder}/{name}" if folder else name, name.removeprefix(f"{above}/")):
        if candidate in known:
            return candidate
    # Challenge files name a picture alone, wherever below its folder it lies.
    if "/" in name:
        return None
    inside = [p for p in by_name.get(name, []) if not folder or p.startswith(f"{folder}/")]
    return inside[0] if len(inside) == 1 else (inside or None)


def _read_table(file: AnyPath) -> pd.DataFrame:
    import pandas as pd

    if not reach(file, file.is_file):
        raise FileNotFoundError(f"{file}: expected a label file")
    try:
        # Without index_col, a comma at the end of each row would shift the columns by one.
        table = pd.read_csv(
            io.BytesIO(read_bytes(file)),
            dtype=str,
            keep_default_na=False,
            encoding="utf-8-sig",
            index_col=False,
        )
    except (ValueError, OSError) as error:
        raise LabelError(f"{file}: expected a table with a header but got: {error}") from error
    table.columns = [str(column).strip() for column in table.columns]
    name = next((column for column in _NAME_COLUMNS if column in table), None)
    if name is None or "target" not in table:
        raise LabelError(
            f"{file}: expected columns {' or '.join(_NAME_COLUMNS)}, and target "
            f"but got {', '.join(table.columns)}"
        )
    for row in table.to_dict("records"):
        target = row["target"].strip()
        yield (
            row[name].strip(),
            {
                "target": int(target) if target in ("0", "1") else -1,
                "generator": row.get("generator", ""),
                # What a tool wrote for a missing group is no group that files share.
                "group": "" if row.get("group") == "nan" else row.get("group", ""),
                "split": row.get("split", ""),
            },
        )


def _label_by_folders(listing: Listing) -> None:
    """real/ffhq/x.png, fake/sdxl/x.png, progan/0_real/x.png: the innermost such folder counts."""
    found = False
    for index, item in enumerate(listing.items):
        folders = item.path.split("/")[:-1]
        levels = [i for i, name in enumerate(folders) if name.lower() in _FOLDER_TARGETS]
        if not levels:
            continue
        found = True
        level = levels[-1]
        name = folders[level].lower()
        generator = folders[level + 1 : level + 2] or folders[max(level - 1, 0) : level] or [name]
        listing.items[index] = replace(item, target=_FOLDER_TARGETS[name], generator=generator[0])
    if found:
        listing.labels_from.append("folder names")
        for item in listing.items:
            if item.target == -1:
                listing.note("file without a label", item.path)
