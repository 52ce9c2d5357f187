"""IPTC's digital source types, which C2PA and XMP share, and names of generators.

https://cv.iptc.org/newscodes/digitalsourcetype/
"""

from __future__ import annotations

import re

from .report import Says

_TYPES = {
    Says.GENERATED: "trainedAlgorithmicMedia trainedAlgorithmicData algorithmicMedia",
    Says.PARTLY_GENERATED: "compositeWithTrainedAlgorithmicMedia compositeSynthetic",
    Says.EDITED: "algorithmicallyEnhanced humanEdits minorHumanEdits composite compositeCapture",
    Says.CAPTURED: "digitalCapture computationalCapture negativeFilm positiveFilm print",
    Says.MADE_BY_HAND: "digitalCreation digitalArt softwareImage virtualRecording screenCapture",
}
_SAYS = {name.lower(): says for says, names in _TYPES.items() for name in names.split()}

# What the software that is named in a file is known for. Editors that also generate are left out.
_GENERATORS = re.compile(
    r"\b(stable[ -]?diffusion|novelai|comfyui|automatic1111|invokeai|fooocus|sd\.next|"
    r"easy diffusion|draw things|midjourney|dall[-·. ]?e|gpt[- ]?image|gpt-4o|openai|"
    r"google ai|google imagen|imagen \d|google gemini|gemini \d|nano banana|google veo|veo \d|"
    r"adobe firefly|ideogram|leonardo\.ai|flux\.1|black forest labs|grok|runwayml|runway gen|"
    r"pika labs|kling ai|hailuo|luma dream machine|stylegan\d?|heygen|synthesia)\b",
    re.IGNORECASE,
)


def last_part(source_type: str) -> str:
    """The name of a source type at the end of its URI."""
    return re.split(r"[/:#]", source_type.strip())[-1]


def says_of(source_type: str) -> Says | None:
    """What a digital source type says, None for one that is not known; a URI or its last part."""
    return _SAYS.get(last_part(source_type).lower())


def names_generator(software: str) -> bool:
    """Whether the name of a software is that of a generator."""
    return bool(_GENERATORS.search(software))
