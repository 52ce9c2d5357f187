"""python -m ffdetect.provenance.readers.c2pa_process SECONDS [TRUST_LIST] < FILE: C2PA, as JSON.

In a process of its own, with limits: its parser takes time that grows with the square of the boxes
of an MP4 file, and a file that makes native code crash takes only this process with it.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

MEMORY = 2 * 2**30  # bytes of addresses
LARGEST = 32 * 2**20  # characters of an answer
OFFLINE: dict[str, dict[str, Any]] = {
    "core": {
        "decode_identity_assertions": False,  # would resolve names of the web
        "allowed_network_hosts": [],
        "max_decompressed_manifest_size_in_mb": 16,
    },
    "verify": {
        "verify_after_reading": True,
        "verify_trust": False,
        "remote_manifest_fetch": False,
        "ocsp_fetch": False,
    },
}


def read_store(stream: Any, trust_list: Path | None) -> dict[str, Any]:
    """The manifests of a file as `store` and `state` of their validation, or `error` and the
    `kind` of it that begins the library's message."""
    import c2pa

    settings = dict(OFFLINE)
    if trust_list is not None:
        settings["trust"] = {"trust_anchors": trust_list.read_text("utf-8", "replace")}
        settings["verify"] = {**OFFLINE["verify"], "verify_trust": True}
    try:
        with (
            c2pa.Context.from_dict(settings) as context,
            c2pa.Reader(None, stream, context=context) as reader,
        ):
            text = reader.json()
            if len(text) > LARGEST:
                return {"error": f"a manifest of {len(text)} characters", "kind": "TooLarge"}
            return {"store": json.loads(text), "state": reader.get_validation_state() or ""}
    except c2pa.C2paError as error:
        return {"error": str(error), "kind": str(error).partition(":")[0]}


def _limit(seconds: int) -> None:
    try:
        import resource
    except ImportError:  # Windows: the caller's clock is the only limit
        return
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main() -> None:
    _limit(int(sys.argv[1]))
    trust_list = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    with open(0, "rb") as given:
        stream = given if given.seekable() else io.BytesIO(given.read())
        print(json.dumps(read_store(stream, trust_list)))


if __name__ == "__main__":
    main()
