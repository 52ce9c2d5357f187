"""python examples/read_cache.py CACHE: a cache is plain Arrow; here Polars reads it, without ours.

DuckDB does too, of `table = pyarrow.ipc.open_file(PART).read_all()`:
`duckdb.sql("select generator, count(*) from table group by 1")`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import polars as pl


def main(cache: Path) -> None:
    columns = ["path", "target", "generator", "jpeg_quality", "source_width"]
    parts = sorted(cache.glob("*.arrow"))
    faces = pl.concat(pl.read_ipc(part, columns=columns) for part in parts)
    sizes = pl.len().alias("faces"), pl.col("source_width").mean(), pl.col("jpeg_quality").min()
    with pl.Config(tbl_rows=-1):
        print(faces.group_by("generator", "target").agg(sizes).sort("generator", "target"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
