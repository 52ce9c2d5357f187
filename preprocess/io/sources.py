"""Folders, label files and clips -> a list of `Item`: what to read, and what is known of it.

Labels come from the first of these that there is: a file given by the user, a `manifest.csv`, a
challenge's `NAME_label.txt` beside its folder `NAME`, or folders named real and fake. Whatever
does not fit together is counted and named, never silently dropped.
"""

from __future__ import annotations

import contextlib
import os
import re
import zlib
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from .formats import HEAD, is_other, is_text, may_be_text, media_of_content, media_of_name
from .labels import FileIndex, Label, join, read_labels
from .storage import as_path, is_remote, names_in, reach, read_head, walk

if TYPE_CHECKING:
    from .storage import AnyPath

_FOLDER_TARGETS = {"real": 0, "0_real": 0, "fake": 1, "1_fake": 1}
_CHALLENGE_SPLITS = {"trainset": "train", "valset": "dev", "testset": "test"}
_UNKNOWN = "content that is not known"
_MOST_TARGETS = 5  # that are named each by itself


@dataclass(frozen=True)
class Item:
    """One source file.

    Attributes:
        file: where it is.
        path: relative to the data root, with forward slashes; its name in caches and reports.
        target: 1 fake, 0 real, -1 unknown.
        generator: which generator or real source, "" if unknown.
        group: what must stay on one side of a split; the path itself if nothing better is known.
        split: "train", "dev", "test" as labelled, "" if unknown.
        media: "picture", "clip" or "sound", "" if only the name tells.
    """

    file: AnyPath
    path: str
    target: int = -1
    generator: str = ""
    group: str = ""
    split: str = ""
    media: str = ""

    @property
    def local(self) -> Path:
        """The file, of an item that is on this machine; TypeError of one that is not."""
        if is_remote(self.file):
            raise TypeError(f"expected a file of this machine but got {self.file}")
        return self.file

    @property
    def is_video(self) -> bool:
        """As it was listed; `is_clip` looks into the file."""
        return (self.media or media_of_name(self.file.name)) == "clip"


@dataclass
class Listing:
    """The items of a data root, sorted by path, and everything that did not fit.

    Attributes:
        items: every picture and clip found.
        labels_from: the files or rule that gave the labels.
        problems: kind of problem -> the names concerned.
        left_out: kind of file -> the paths of those that are no items.
    """

    items: list[Item]
    labels_from: list[str] = field(default_factory=list)
    problems: dict[str, list[str]] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def note(self, kind: str, name: str) -> None:
        self.problems.setdefault(kind, []).append(name)

    def leave_out(self, kind: str, path: str) -> None:
        self.left_out.setdefault(kind, []).append(path)

    def report(self, examples: int = 3) -> str:
        """What was found, in a few lines for people."""
        counts = Counter(item.target for item in self.items)
        origin = ", ".join(self.labels_from) or "none found"
        lines = [
            f"{len(self.items)} files: {counts[0]} real, {counts[1]} fake, "
            f"{counts[-1]} without a label (labels: {origin})"
        ]
        for kind, names in sorted(self.problems.items()):
            lines.append(f"  {kind}: {_some(names, examples)}")
        return "\n".join([*lines, *self.left_out_lines(examples)])

    def left_out_lines(self, examples: int = 3) -> list[str]:
        """The part of the report that says what is not listed."""
        return [
            f"  left out, {kind}: {_some(names, examples)}"
            for kind, names in sorted(self.left_out.items())
        ]


def _some(names: Sequence[str], examples: int) -> str:
    shown = ", ".join(repr(name) for name in names[:examples])
    more = f" and {len(names) - examples} more" if len(names) > examples else ""
    return f"{len(names)} ({shown}{more})"


def find_items(
    data: str | AnyPath,
    labels: str | AnyPath | None = None,
    media: Collection[str] = ("picture", "clip"),
) -> Listing:
    """List every picture and clip of a folder (at any depth) or a single file, with labels.

    What a file is, its name says; where it does not, how it begins. A file of neither that a
    label names is listed too, since whoever labelled it waits for it.

    Args:
        media: what to list in a folder, of "picture", "clip" and "sound".

    Raises:
        FileNotFoundError: `data` or `labels` does not exist.
        PermissionError: `data` is a folder that cannot be listed.
        LabelError: a label file without the columns it needs, or with splits that are not known.
        StorageError: `data` is a URL and cannot be reached.
    """
    data = as_path(data)
    if not reach(data, data.exists):
        raise FileNotFoundError(f"{data}: expected a picture, a clip or a folder of these")
    is_folder = reach(data, data.is_dir)
    if is_folder and not is_remote(data):
        _refuse_closed(data)
    root = data if is_folder else data.parent
    listing = Listing([])
    unknown: dict[str, Item] = {}
    if is_folder:
        _list_folder(root, media, listing, unknown)
    else:
        name, media_here = printable(data.name), None
        with contextlib.suppress(OSError):  # decoding will say why
            media_here = _media(data)
        listing.items.append(Item(data, name, group=name, media=media_here or "picture"))
    if labels is not None:
        tables = [(as_path(labels), "")]
    else:
        tables = _find_tables(root, listing.items if is_folder else [])
    if tables:
        _label_by_tables(listing, tables, root, unknown, single=not is_folder)
    else:
        _label_by_folders(listing)
    for path in unknown:
        listing.leave_out(_UNKNOWN, path)
    listing.items.sort(key=lambda item: item.path)
    return listing


def _refuse_closed(folder: AnyPath) -> None:
    try:
        with os.scandir(str(folder)):
            pass
    except PermissionError:
        raise PermissionError(f"{folder}: expected a folder that can be read") from None


def _list_folder(
    root: AnyPath, media: Collection[str], listing: Listing, unknown: dict[str, Item]
) -> None:
    def leave_out(kind: str, path: str) -> None:
        listing.leave_out(kind, printable(path))

    for file, inside in walk(root, leave_out):
        path = printable(inside)
        try:
            found = _media(file)
        except OSError as error:
            leave_out(f"cannot be read ({error.strerror})", path)
            continue
        if found and found in media:
            listing.items.append(Item(file, path, group=path, media=found))
        elif found is None:
            unknown[path] = Item(file, path, group=path, media="picture")
        else:
            leave_out(found or PurePosixPath(path).suffix.lower(), path)
    listing.items.sort(key=lambda item: item.path)


def _media(file: AnyPath) -> str | None:
    """ "picture", "clip", "sound", "" for a name of something else, None if nobody knows."""
    media = media_of_name(file.name)
    if media and not may_be_text(file.name):
        return media
    if is_other(file.name):
        return ""
    head = read_head(file, HEAD)
    if media:
        return "" if head and is_text(head) else media
    return media_of_content(head) or None


def is_clip(file: Path) -> bool:
    """Whether a file is to be decoded as a clip: by how it begins, as many a .gif is an mp4, or,
    where that does not tell, by its name."""
    media = ""
    with contextlib.suppress(OSError, ValueError):  # decoding will say why
        media = media_of_content(read_head(file, HEAD))
    return (media if media in ("picture", "clip") else media_of_name(file.name)) == "clip"


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
    listing: Listing,
    tables: list[tuple[AnyPath, str]],
    root: AnyPath,
    unknown: dict[str, Item],
    single: bool,
) -> None:
    labels: dict[str, list[Label]] = {}
    others = {path for paths in listing.left_out.values() for path in paths}
    index = FileIndex([*(item.path for item in listing.items), *unknown, *others], root)
    for file, folder in tables:
        listing.labels_from.append(printable(str(file)))
        # A manifest above the data root names its files from there; cut that part off.
        above = _below(root, file.parent)
        part = folder or ("" if _is_manifest(file) else root.name)
        for label in read_labels(file):
            path = index.find(label.name, folder, above)
            if isinstance(path, list):
                listing.note("label that fits several files", label.name)
            elif path is None:
                # A manifest above the data root also lists files outside of it.
                elsewhere = above not in ("", ".") and not label.name.startswith(f"{above}/")
                if not single and not (_is_manifest(file) and elsewhere):
                    listing.note("label without a file", label.name)
            elif path in others:
                listing.note("label of a file that is left out", label.name)
            else:
                split = label.split or _CHALLENGE_SPLITS.get(part, "")
                labels.setdefault(path, []).append(replace(label, split=split))
        own = _below(file, root)
        listing.left_out = {
            kind: rest
            for kind, paths in listing.left_out.items()
            if (rest := [path for path in paths if path != own])
        }
    listing.items += [unknown.pop(path) for path in sorted(unknown.keys() & labels.keys())]
    targets: set[str] = set()
    for place, item in enumerate(listing.items):
        if item.path in labels:
            listing.items[place] = _labelled(item, labels[item.path], listing, targets)
        else:
            listing.note("file without a label", item.path)


def _labelled(item: Item, labels: Sequence[Label], listing: Listing, odd: set[str]) -> Item:
    """An item with what its rows say. `odd` collects targets that mean nothing here."""
    label, problems = join(labels)
    for problem in problems:
        listing.note(problem, item.path)
    if all(row.target < 0 for row in labels):
        _note_target(listing, item.path, label.written[:40], odd)
    return replace(
        item,
        target=label.target,
        generator=label.generator,
        group=label.group or item.group,
        split=label.split,
    )


def _note_target(listing: Listing, path: str, written: str, odd: set[str]) -> None:
    """Values by kind, as they are written, unless there are too many."""
    if not written:
        listing.note("no target", path)
    elif written in odd or len(odd) < _MOST_TARGETS:
        odd.add(written)
        listing.note(f"target {written!r} is neither 0 (real) nor 1 (fake)", path)
    else:
        listing.note("target is yet another value", path)


def _below(root: AnyPath, folder: AnyPath) -> str:
    """The root's path from a folder above it, "." if it is the folder, "" for any other."""
    if not is_remote(root) and not is_remote(folder):
        return root.relative_to(folder).as_posix() if root.is_relative_to(folder) else ""
    inside, outside = (f"{str(path).rstrip('/')}/" for path in (root, folder))
    if not inside.startswith(outside):
        return ""
    return inside.removeprefix(outside).rstrip("/") or "."


def _is_manifest(file: AnyPath) -> bool:
    return file.name == "manifest.csv"


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
