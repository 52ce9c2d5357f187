"""XMP packets: IPTC's digital source type and its relatives, and the software that wrote them.

A packet is parsed event by event, without a tree; one with a document type, which no XMP needs and
which entity bombs do, is refused.
"""

from __future__ import annotations

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser, ParseError

from ffdetect.provenance.report import Findings, Says, tidy
from ffdetect.provenance.source_types import last_part, names_generator, says_of

from .generator_text import Text, read_texts

LARGEST = 4 * 2**20  # bytes of a packet
_DEEPEST = 50  # elements in elements
_MOST = 100  # values
_RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
# Local names: what they stand in is often another namespace than IPTC's or Adobe's own.
_WANTED = frozenset("digitalsourcetype aisystemused creatortool softwareagent credit aigc".split())


def read_xmp(packet: bytes, found: Findings) -> None:
    """Note the claims of one XMP packet."""
    if len(packet) > LARGEST:
        size = f"{len(packet) / 2**20:.1f} MiB"
        found.fail("xmp", f"expected at most {LARGEST // 2**20} MiB but got {size}")
        return
    properties = _Properties()
    parser = DefusedXMLParser(target=properties, forbid_dtd=True)
    try:
        parser.feed(packet.strip(b"\0 \t\r\n"))
        parser.close()
    except DefusedXmlException:
        found.fail("xmp", "expected XMP but got a document type or entities")
    except (ParseError, ValueError, LookupError) as error:  # LookupError: unknown encodings
        found.fail("xmp", f"expected XMP that is well-formed but got: {tidy(error)}")
    for name, value in dict.fromkeys(properties.found):
        _note(name, value, found)


def _note(name: str, value: str, found: Findings) -> None:
    line = tidy(value, 200)
    if name == "digitalsourcetype":
        if says := says_of(value):
            found.claim(says, f"digital source type {last_part(value)}", "xmp")
    elif name == "aisystemused":
        found.claim(Says.GENERATED, f"AI system used: {line}", "xmp")
    elif name == "aigc":
        read_texts([Text("XMP", "AIGC", value)], "xmp", found)
    elif names_generator(value):
        found.claim(Says.GENERATED, f"{_SHOWN[name]}: {line}", "xmp")
    elif name != "credit":
        found.claim(Says.SOFTWARE, line, "xmp")


_SHOWN = {"creatortool": "creator tool", "softwareagent": "software", "credit": "credit"}


class _Properties:
    """Target of an XML parser that keeps the properties that are wanted.

    Attributes:
        found: local name in small letters and value of each.
    """

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []
        self._open: list[str] = []
        self._text: list[str] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if len(self._open) >= _DEEPEST:
            raise ValueError(f"elements nested more than {_DEEPEST} deep")
        self._keep()
        # Containers of RDF (Bag, Seq, Alt, li) stand between a property and its values.
        inherited = self._open[-1] if self._open and tag.startswith(_RDF) else ""
        self._open.append(inherited or _local(tag))
        for name, value in attributes.items():
            self._add(self._open[-1] if name == f"{_RDF}resource" else _local(name), value)

    def data(self, text: str) -> None:
        if self._open and self._open[-1] in _WANTED:
            self._text.append(text)

    def end(self, tag: str) -> None:
        self._keep()
        self._open.pop()

    def close(self) -> None:
        pass

    def _keep(self) -> None:
        if self._text:
            self._add(self._open[-1], "".join(self._text))
            self._text = []

    def _add(self, name: str, value: str) -> None:
        if name in _WANTED and value.strip() and len(self.found) < _MOST:
            self.found.append((name, value.strip()))


def _local(tag: str) -> str:
    return tag.rpartition("}")[2].lower()
