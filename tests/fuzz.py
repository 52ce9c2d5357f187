"""Damage for the fuzzing tests: the same few examples each time, more and others when asked for."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

FACTOR = int(os.environ.get("FFDETECT_FUZZ", "1"))

_LENGTHS = ["00000000", "ffffffff", "ffffff7f", "7fffffff", "00000040", "00ffff00", "80"]
_VALUES = st.one_of(st.binary(max_size=8), st.sampled_from([bytes.fromhex(x) for x in _LENGTHS]))
# Most of what steers a reader lies at a file's ends.
_PLACES = st.one_of(st.floats(0, 1), st.integers(0, 2000), st.integers(-2000, -1))
_ATOMS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["../../x", "/etc/passwd", "part-00000.arrow", 2**31, 2**63, -1, 1e308]),
)
values = st.recursive(
    _ATOMS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
"""What JSON can hold, and what a hostile file would say."""


def fuzz(examples: int) -> Callable:
    """Decorates a test of hypothesis: `examples` cases, or FFDETECT_FUZZ times as many new ones."""
    return settings(
        max_examples=examples * FACTOR,
        derandomize=FACTOR == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


@st.composite
def damage(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """A function that overwrites, inserts, removes, repeats or cuts off some bytes of a file."""
    changes = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["set", "set", "insert", "remove", "repeat", "cut"]),
                _PLACES,
                _VALUES,
            ),
            min_size=1,
            max_size=4,
        )
    )

    def apply(data: bytes) -> bytes:
        for kind, place, value in changes:
            at = int(place * len(data)) if isinstance(place, float) else place
            at = min(at % max(len(data), 1), len(data))
            before, after = data[:at], data[at:]
            data = {
                "set": before + value + after[len(value) :],
                "insert": before + value + after,
                "remove": before + after[len(value) + 1 :],
                "repeat": before + after[:64] + after,
                "cut": before,
            }[kind]
        return data

    return apply


@st.composite
def changed(draw: st.DrawFn, tree: dict) -> dict:
    """A JSON object with one value anywhere in it replaced, removed or joined by another."""
    path, inside = [], tree
    while isinstance(inside, dict) and inside:
        path.append(draw(st.sampled_from(sorted(inside))))
        inside = inside[path[-1]]
        if draw(st.booleans()):
            break
    kind, value = draw(st.sampled_from(["replace", "remove", "add"])), draw(values)

    def rebuild(node: dict, keys: list[str]) -> dict:
        if len(keys) > 1:
            return {**node, keys[0]: rebuild(node[keys[0]], keys[1:])}
        if kind == "remove":
            return {key: node[key] for key in node if key != keys[0]}
        return {**node, keys[0] if kind == "replace" else draw(st.text(max_size=8)): value}

    return rebuild(tree, path)


@contextmanager
def little_memory(mebibytes: int) -> Iterator[None]:
    """Fails where the process took more memory than that in between, even for a moment."""
    clear, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")

    def high_water() -> int:
        return next(int(s.split()[1]) for s in status.read_text().splitlines() if "VmHWM" in s)

    try:
        clear.write_text("5")  # the high-water mark begins at what is used now
    except OSError:
        yield
        return
    before = high_water()
    yield
    grown = (high_water() - before) / 1024
    if grown > mebibytes:
        pytest.fail(f"expected at most {mebibytes} MiB more but it took {grown:.0f} MiB")


def files_in(folder: Path) -> dict[str, bytes]:
    """Everything below a folder."""
    return {str(f.relative_to(folder)): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
