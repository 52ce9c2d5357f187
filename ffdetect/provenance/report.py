"""The types of a report: claims, each with who makes it and how far it is bound to the file."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

ABSENCE = (
    "What is missing proves nothing: most uploads strip metadata, and no generator need write any."
)
_LONGEST = 500  # characters of one value


class Says(str, Enum):
    """What a claim says of the picture, clip or sound."""

    GENERATED = "generated"
    PARTLY_GENERATED = "partly generated"
    EDITED = "edited"
    CAPTURED = "captured"
    MADE_BY_HAND = "made by hand"
    SOFTWARE = "software"


class Trust(str, Enum):
    """How far a claim is bound to the file and to somebody."""

    TRUSTED = "signed, by a certificate of the trust list"
    VALID = "signed, and unchanged since; nobody vouches for the signer"
    INVALID = "signed, but the signature does not hold for this file"
    UNSIGNED = "unsigned: anyone can write it"


@dataclass(frozen=True)
class Claim:
    """One thing that a file says of itself.

    Attributes:
        says: what kind of claim it is.
        text: the claim in words.
        source: where it stands: "c2pa", "xmp", "text", "exif" or "container".
        signer: who signed it, "" where nobody did.
        trust: what the signature is worth.
    """

    says: Says
    text: str
    source: str
    signer: str = ""
    trust: Trust = Trust.UNSIGNED


@dataclass(frozen=True)
class ReadError:
    """Why something could not be read: `source` as in `Claim`, or "file"."""

    source: str
    message: str


@dataclass(frozen=True)
class Action:
    """One action of a C2PA manifest, as it was signed; "" for what it leaves out.

    Attributes:
        action: such as "c2pa.created".
        source_type: last part of the IPTC digital source type, such as "trainedAlgorithmicMedia".
        software: what did it.
        when: ISO 8601.
    """

    action: str
    source_type: str
    software: str
    when: str


@dataclass(frozen=True)
class Manifest:
    """One C2PA manifest: the active one, or that of an ingredient.

    Attributes:
        active: whether it speaks of this very file.
        title: of the file, as signed.
        generator: the software that made the claim.
        signer: organisation and name of the certificate.
        time: of the signature by a time stamp authority, "" without one.
        trust: what its validation came to.
        failures: C2PA's codes of what failed, such as "assertion.dataHash.mismatch".
        actions: in the order of the manifest.
    """

    active: bool
    title: str
    generator: str
    signer: str
    time: str
    trust: Trust
    failures: tuple[str, ...]
    actions: tuple[Action, ...]


@dataclass(frozen=True)
class GeneratorText:
    """Settings that a generator wrote into a file, "" for what they leave out.

    Attributes:
        tool: such as "ComfyUI".
        where: the keyword or tag that holds them.
        model: name of the checkpoint.
        prompt: its beginning.
    """

    tool: str
    where: str
    model: str
    prompt: str


@dataclass(frozen=True)
class Camera:
    """EXIF, "" for what is not there; `taken` and `changed` are as EXIF writes dates."""

    make: str
    model: str
    lens: str
    software: str
    taken: str
    changed: str


@dataclass(frozen=True)
class JpegTables:
    """Which kind of software wrote a JPEG file last, by its quantisation tables.

    Attributes:
        family: "ijg" (libjpeg's tables, which most software uses), "mozjpeg", "photoshop", or
            "other", as many cameras have.
        quality: 1 to 100 of the family's scale; of the nearest table of libjpeg for "photoshop" and
            "other".
        progressive: whether the picture is stored in several scans.
        subsampling: share of colour samples kept: 1, 0.5 or 0.25; 0 without colour.
    """

    family: str
    quality: int
    progressive: bool
    subsampling: float


@dataclass(frozen=True)
class Edit:
    """One entry of an MP4 edit list: which part of a track is shown.

    Attributes:
        track: number of the track, from 1.
        start: seconds of the track's own time; -1 for nothing shown.
        duration: seconds.
        rate: 1 for normal speed.
    """

    track: int
    start: float
    duration: float
    rate: float


@dataclass(frozen=True)
class Container:
    """What the container of a clip or sound says, "" for what is not there.

    Attributes:
        format: FFmpeg's name.
        encoder: what wrote the file.
        created: ISO 8601.
        handlers: names of the tracks' handlers, each once.
        codecs: what encoded the streams, where they say so.
        edits: of MP4 and MOV.
        tags: everything else, cut short.
    """

    format: str
    encoder: str
    created: str
    handlers: tuple[str, ...]
    codecs: tuple[str, ...]
    edits: tuple[Edit, ...]
    tags: dict[str, str]


@dataclass(frozen=True)
class Provenance:
    """Everything that a file says of itself.

    Attributes:
        name: path of the file, or how messages call it.
        claims: who says what: "generated" first and "software" last, signed before unsigned.
        manifests: of C2PA, the active one first.
        generators: settings of generators.
        camera: None without EXIF.
        jpeg: None for other files.
        container: None for still pictures.
        errors: what could not be read, and why.
        not_read: what was not looked for, and how to have it read.
    """

    name: str
    claims: tuple[Claim, ...] = ()
    manifests: tuple[Manifest, ...] = ()
    generators: tuple[GeneratorText, ...] = ()
    camera: Camera | None = None
    jpeg: JpegTables | None = None
    container: Container | None = None
    errors: tuple[ReadError, ...] = ()
    not_read: tuple[str, ...] = ()

    @property
    def says_generated(self) -> bool:
        """Whether any claim, signed or not, says that all or part of it was generated.

        Claims whose signature does not hold count: they are no proof either way.
        """
        return any(one.says in (Says.GENERATED, Says.PARTLY_GENERATED) for one in self.claims)

    @property
    def summary(self) -> str:
        """One or two sentences for people."""
        for kind in Says:
            found = [claim for claim in self.claims if claim.says is kind]
            if found:
                what = f"{found[0].text} ({found[0].trust.value})"
                return f"The file says {_OPENINGS[kind]}: {what}. A claim is no proof. {ABSENCE}"
        return f"The file does not say how it was made. {ABSENCE}"

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON can hold it, with `says_generated` and `summary`."""
        found = asdict(self, dict_factory=_plain)
        return {**found, "says_generated": self.says_generated, "summary": self.summary}


@dataclass
class Findings:
    """What readers found so far; see `Provenance`."""

    claims: list[Claim] = field(default_factory=list)
    manifests: list[Manifest] = field(default_factory=list)
    generators: list[GeneratorText] = field(default_factory=list)
    camera: Camera | None = None
    jpeg: JpegTables | None = None
    container: Container | None = None
    errors: list[ReadError] = field(default_factory=list)
    not_read: list[str] = field(default_factory=list)

    def claim(self, says: Says, text: str, source: str) -> None:
        """Note an unsigned claim."""
        self.claims.append(Claim(says, tidy(text), source))

    def fail(self, source: str, message: str) -> None:
        """Note what could not be read."""
        self.errors.append(ReadError(source, message))

    def report(self, name: str) -> Provenance:
        kinds, trusts = list(Says), list(Trust)
        order = {
            claim: (kinds.index(claim.says), trusts.index(claim.trust)) for claim in self.claims
        }
        return Provenance(
            name=name,
            claims=tuple(sorted(order, key=lambda claim: order[claim])),
            manifests=tuple(self.manifests),
            generators=tuple(self.generators),
            camera=self.camera,
            jpeg=self.jpeg,
            container=self.container,
            errors=tuple(dict.fromkeys(self.errors)),
            not_read=tuple(self.not_read),
        )


_OPENINGS = {
    Says.GENERATED: "that it was generated",
    Says.PARTLY_GENERATED: "that part of it was generated",
    Says.EDITED: "that it was edited",
    Says.CAPTURED: "that a camera took it",
    Says.MADE_BY_HAND: "that a person made it",
    Says.SOFTWARE: "what software wrote it",
}


def _plain(items: list[tuple[str, Any]]) -> dict[str, Any]:
    return {key: value.value if isinstance(value, Enum) else value for key, value in items}


def tidy(value: object, longest: int = _LONGEST) -> str:
    """Text of a file as one printable line: no control characters, and cut short.

    Terminals and pages show it; a file must not be able to steer them.
    """
    text = str(value)[: 4 * longest]
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= longest else line[: longest - 1] + "…"
