"""C2PA manifests ("content credentials"), validated by c2pa-python.

Nothing is fetched: neither manifests kept elsewhere, nor revocation lists, nor identities. Without
a trust list, a valid signature says that the file is as it was signed, not that the signer is who
its certificate names: anyone can make one.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Any, BinaryIO

from ffdetect.provenance.report import Action, Claim, Findings, Manifest, Says, Trust, tidy
from ffdetect.provenance.source_types import last_part, says_of

INSTALLED = importlib.util.find_spec("c2pa") is not None
NOT_READ = "C2PA manifests were not read: pip install 'ffdetect[provenance]' reads them"

_MARKS = (b"jumb", b"provenance")  # of a manifest inside, of one elsewhere (`dcterms:provenance`)
_STRIP = 2**20  # bytes that are searched at once
PATIENCE = 10  # times as long on the clock, where the machine is busy
_MOST = 100  # manifests, and actions of each
_STATES = {"Trusted": Trust.TRUSTED, "Valid": Trust.VALID}


def check_trust_list(file: Path) -> None:
    """Raises ValueError for a trust list that cannot be read or holds no certificates."""
    try:
        anchors = file.read_bytes()
    except OSError as error:
        reason = error.strerror or error
        raise ValueError(f"{file}: expected certificates in PEM but got: {reason}") from error
    if b"-----BEGIN CERTIFICATE-----" not in anchors:
        raise ValueError(f"{file}: expected certificates in PEM but got none")


def may_have_manifest(stream: BinaryIO) -> bool:
    """Whether a file holds the marks that every manifest, or the name of one elsewhere, has."""
    end = b""
    while strip := stream.read(_STRIP):
        if any(mark in end + strip for mark in _MARKS):
            return True
        end = strip[-16:]
    return False


def read_manifests(
    source: Path | bytes, found: Findings, seconds: int, trust_list: Path | None = None
) -> None:
    """Note the manifests inside a file, the active one first, and what they claim.

    Args:
        source: what it is, is read from its bytes.
        seconds: of computing that it may take.
        trust_list: certificates in PEM that signers are checked against.
    """
    if isinstance(source, bytes):
        answer = _ask(seconds, trust_list, data=source)
    else:
        with source.open("rb") as stream:
            answer = _ask(seconds, trust_list, stream=stream)
    if "store" in answer:
        found.manifests += _manifests(answer["store"], answer["state"])
        for manifest in found.manifests:
            found.claims += _claims(manifest)
    elif answer["kind"] == "Remote":
        place = tidy(answer["error"])
        found.fail("c2pa", f"the manifest is kept elsewhere and was not fetched: {place}")
    elif answer["kind"] not in ("ManifestNotFound", "NotSupported"):
        reason = tidy(answer["error"])
        found.fail("c2pa", f"expected a file that can be searched for manifests but got: {reason}")


def _ask(
    seconds: int,
    trust_list: Path | None,
    stream: IO[bytes] | None = None,
    data: bytes | None = None,
) -> dict[str, Any]:
    """What `c2pa_process` answers of a file, or of its bytes.

    Raises:
        ValueError: it took too long, or the file made it crash.
    """
    command = [sys.executable, "-m", f"{__package__}.c2pa_process", str(seconds)]
    command += [str(trust_list)] if trust_list else []
    places = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    patience = PATIENCE * seconds
    try:
        ran = subprocess.run(
            command, stdin=stream, input=data, capture_output=True, timeout=patience, env=places
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"expected an answer within {patience} s but got none") from None
    if ran.returncode:
        reason = ran.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise ValueError(
            f"expected a file that takes at most {seconds} s and no more than ordinary memory but "
            f"reading it ended with {ran.returncode} {reason}"
        )
    answer: dict[str, Any] = json.loads(ran.stdout)
    return answer


def _manifests(store: dict[str, Any], state: str) -> tuple[Manifest, ...]:
    active = store.get("active_manifest")
    results = _dict(store.get("validation_results"))
    failures = _codes(_dict(results.get("activeManifest")).get("failure"))
    for delta in _list(results.get("ingredientDeltas")):
        failures += _codes(_dict(_dict(delta).get("validationDeltas")).get("failure"))
    trust = _STATES.get(state, Trust.INVALID)
    labelled = _dict(store.get("manifests")).items()
    ordered = sorted(labelled, key=lambda item: item[0] != active)[:_MOST]
    return tuple(
        _manifest(_dict(body), label == active, trust, failures if label == active else ())
        for label, body in ordered
    )


def _manifest(
    body: dict[str, Any], active: bool, trust: Trust, failures: tuple[str, ...]
) -> Manifest:
    signature = _dict(body.get("signature_info"))
    names = (signature.get("issuer"), signature.get("common_name"))
    infos = [_software(info) for info in _list(body.get("claim_generator_info"))]
    actions: list[Action] = []
    for assertion in _list(body.get("assertions")):
        actions += _actions(_dict(assertion))
    return Manifest(
        active=active,
        title=tidy(body.get("title") or ""),
        generator=", ".join(filter(None, infos)) or tidy(body.get("claim_generator") or ""),
        signer=tidy(", ".join(dict.fromkeys(str(name) for name in names if name))) or "unnamed",
        time=tidy(signature.get("time") or ""),
        trust=trust,
        failures=failures,
        actions=tuple(actions[:_MOST]),
    )


def _actions(assertion: dict[str, Any]) -> list[Action]:
    """The actions of an assertion; a source type that stands by itself counts as one."""
    label, data = str(assertion.get("label", "")), _dict(assertion.get("data"))
    if label.startswith("c2pa.actions"):
        return [
            Action(
                action=tidy(action.get("action") or ""),
                source_type=tidy(last_part(str(action.get("digitalSourceType") or ""))),
                software=_software(action.get("softwareAgent")),
                when=tidy(action.get("when") or ""),
            )
            for action in map(_dict, _list(data.get("actions"))[:_MOST])
        ]
    types = [value for key, value in data.items() if key.endswith("DigitalSourceType") and value]
    return [Action(tidy(label), tidy(last_part(str(value))), "", "") for value in types]


def _claims(manifest: Manifest) -> list[Claim]:
    """What a manifest says of the file, or of an ingredient of it."""
    whose = "" if manifest.active else "an ingredient: "
    broken = f" ({', '.join(manifest.failures)})" if manifest.failures else ""
    found: dict[tuple[Says, str], None] = {}
    edits = []
    for action in manifest.actions:
        software = action.software or manifest.generator
        by = f" by {software}" if software else ""
        says = says_of(action.source_type)
        if says is not None:
            found[says, f"{action.action}, {action.source_type}{by}"] = None
        elif action.action not in ("c2pa.created", "c2pa.opened", "c2pa.placed"):
            edits.append(action.action)
    if edits:
        found[Says.EDITED, ", ".join(dict.fromkeys(edits))] = None
    if not found:
        found[Says.SOFTWARE, f"signed with {manifest.generator or 'unnamed software'}"] = None
    return [
        Claim(says, tidy(whose + text + broken), "c2pa", manifest.signer, manifest.trust)
        for says, text in found
    ]


def _software(info: object) -> str:
    """Name and version of what C2PA keeps as text or as an object."""
    if isinstance(info, dict):
        return tidy(" ".join(str(info[key]) for key in ("name", "version") if info.get(key)))
    return tidy(info or "")


def _codes(statuses: object) -> tuple[str, ...]:
    codes = (tidy(_dict(status).get("code") or "") for status in _list(statuses)[:_MOST])
    return tuple(dict.fromkeys(filter(None, codes)))


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
