"""Settings that generators write into PNG text, EXIF comments and tags of clips.

Read are the ways of the Stable Diffusion web UIs (AUTOMATIC1111 and what took over its format),
Fooocus, ComfyUI, NovelAI, InvokeAI, Easy Diffusion and Midjourney, and the label of generated
content that GB 45438-2025 asks for (`AIGC`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

from ffdetect.provenance.report import Findings, GeneratorText, Says, tidy
from ffdetect.provenance.source_types import names_generator

_MOST = 100  # texts of one file
_WEB_UI = re.compile(r"(?:^|\n|, )Steps: \d+, ")
_MODEL = re.compile(r", Model: ([^,\n]{1,200})")
_VERSION = re.compile(r", (?:App|Version): ([^,\n]{1,100})")
_MIDJOURNEY = re.compile(r"\bJob ID: [0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-")
_COMFY_TAG = re.compile(r"(prompt|workflow):\s*(?=\{)", re.IGNORECASE)
_MODELS = ("ckpt_name", "unet_name", "model_name")
_AIGC = {  # label -> what GB 45438-2025 means by it
    "1": "it is",
    "2": "it may be",
    "3": "it is suspected to be",
}


@dataclass(frozen=True)
class Text:
    """One text of a file: `where` for people ("PNG text"), keyword or tag, and value."""

    where: str
    keyword: str
    value: str


def read_texts(texts: Iterable[Text], source: str, found: Findings) -> None:
    """Note what generators wrote, and the claims that this makes.

    Args:
        texts: of one file; only the first hundred are read.
        source: as in `Claim`.
    """
    for text in islice(texts, _MOST):
        where = f"{text.where} {tidy(text.keyword, 60)}"
        keyword, value = text.keyword.lower(), text.value
        if tag := _COMFY_TAG.match(value):  # ComfyUI's WebP files: camera tags hold the graph
            keyword, value = tag[1].lower(), value[tag.end() :]
        reader = _READERS.get(keyword)
        if reader is None:
            continue
        try:
            settings = reader(value)
        except (ValueError, RecursionError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else tidy(error)
            found.fail(source, f"{where}: expected JSON but got: {reason}")
            continue
        if settings is not None:
            model, prompt = tidy(settings.model), tidy(settings.prompt)
            found.generators.append(GeneratorText(settings.tool, where, model, prompt))
            named = f", model {model}" if model else ""
            found.claim(Says.GENERATED, f"{where} holds settings of {settings.tool}{named}", source)


@dataclass(frozen=True)
class _Settings:
    tool: str
    model: str = ""
    prompt: str = ""


def is_graph_tag(value: str) -> bool:
    """Whether the value of a camera tag is a graph of ComfyUI, not the name of a camera."""
    return bool(_COMFY_TAG.match(value))


def _settings(text: str) -> _Settings | None:
    return _json_settings(text) if text.lstrip().startswith("{") else _web_ui(text)


def _web_ui(text: str) -> _Settings | None:
    """https://github.com/AUTOMATIC1111/stable-diffusion-webui, `modules/infotext_utils.py`."""
    if not _WEB_UI.search(text):
        return None
    model, version = _MODEL.search(text), _VERSION.search(text)
    prompt = re.split(r"\nNegative prompt: |\nSteps: ", text, maxsplit=1)[0]
    known = f" ({tidy(version[1], 60)})" if version else ""
    return _Settings(f"a Stable Diffusion web UI{known}", model[1] if model else "", prompt)


def _json_settings(text: str) -> _Settings | None:
    data = json.loads(text)
    return _graph(data) or _flat(data) if isinstance(data, dict) else None


def _flat(data: dict[str, Any]) -> _Settings | None:
    """Settings by name, as Fooocus, NovelAI and Draw Things write them."""
    if "prompt" not in data or not data.keys() & {"steps", "sampler", "seed", "base_model"}:
        return None
    model = next((data[key] for key in ("base_model", "model") if data.get(key)), "")
    tool = "Fooocus" if "base_model" in data else "a generator"
    if "uc" in data or "request_type" in data:
        tool = "NovelAI"
    return _Settings(tool, str(model), str(data["prompt"]))


def _graph(data: dict[str, Any]) -> _Settings | None:
    """A graph of ComfyUI, as it was run or as it was drawn, or an object that holds both."""
    for held in (data, data.get("prompt"), data.get("workflow")):
        graph = json.loads(held) if isinstance(held, str) and held.startswith("{") else held
        if isinstance(graph, dict) and _is_graph(graph):
            nodes = graph["nodes"] if isinstance(graph.get("nodes"), list) else graph.values()
            inputs = [node.get("inputs") for node in nodes if isinstance(node, dict)]
            named = [one for one in inputs if isinstance(one, dict)]
            models = [one[key] for one in named for key in _MODELS if isinstance(one.get(key), str)]
            prompts = [one["text"] for one in named if isinstance(one.get("text"), str)]
            return _Settings("ComfyUI", ", ".join(models[:5]), prompts[0] if prompts else "")
    return None


def _is_graph(data: dict[str, Any]) -> bool:
    if isinstance(data.get("nodes"), list):
        return True
    return any(isinstance(node, dict) and "class_type" in node for node in data.values())


def _software(text: str) -> _Settings | None:
    return _Settings(tidy(text, 60)) if names_generator(text) else None


def _invokeai(text: str) -> _Settings | None:
    data = json.loads(text)
    model = data.get("model") if isinstance(data, dict) else None
    name = model.get("name", model.get("model_name", "")) if isinstance(model, dict) else ""
    prompt = data.get("positive_prompt", "") if isinstance(data, dict) else ""
    return _Settings("InvokeAI", str(name), str(prompt))


def _aigc(text: str) -> _Settings | None:
    data: Any = json.loads(text)
    data = data.get("AIGC", data) if isinstance(data, dict) else data
    if not isinstance(data, dict) or str(data.get("Label")) not in _AIGC:
        return None
    producer = tidy(data.get("ContentProducer") or "", 60)
    label = _AIGC[str(data["Label"])]
    return _Settings(f"the AIGC label: {label} generated, by {producer or 'nobody named'}")


def _description(text: str) -> _Settings | None:
    if _MIDJOURNEY.search(text):
        return _Settings("Midjourney", "", text.split("Job ID:")[0])
    return _settings(text)


_READERS: dict[str, Callable[[str], _Settings | None]] = {
    "parameters": _settings,
    "prompt": _settings,
    "comment": _settings,
    "usercomment": _settings,
    "workflow": _json_settings,
    "description": _description,
    "imagedescription": _description,
    "software": _software,
    "source": _software,
    "title": lambda text: _Settings("NovelAI") if text == "AI generated image" else None,
    "invokeai_metadata": _invokeai,
    "sd-metadata": _invokeai,
    "dream": lambda text: _Settings("InvokeAI", prompt=text),
    "use_stable_diffusion_model": lambda text: _Settings("Easy Diffusion", text),
    "fooocus_scheme": lambda text: _Settings("Fooocus"),
    "aigc": _aigc,
}
