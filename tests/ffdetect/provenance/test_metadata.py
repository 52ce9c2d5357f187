"""Unsigned metadata of pictures: XMP, PNG text, EXIF, and the tables of JPEG files."""

from __future__ import annotations

import io
import json
import zlib

import pytest
from PIL import Image
from PIL.JpegPresets import presets

from ffdetect.provenance import Says, Trust, read_provenance

from .files import IPTC, WEB_UI, chunk, exif, picture, png, xmp

GRAPH = {
    "3": {"class_type": "KSampler", "inputs": {"seed": 1, "model": ["4", 0]}},
    "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "flux1-dev.safetensors"}},
    "6": {"class_type": "CLIPTextEncode", "inputs": {"text": "a man at a desk"}},
}
DRAWN = {"nodes": [{"id": 1, "type": "KSampler"}], "links": []}
NOVELAI = {"prompt": "girl", "steps": 28, "sampler": "k_euler", "uc": "lowres", "seed": 3}
FOOOCUS = {"prompt": "a cat", "base_model": "juggernautXL_v8", "steps": 30}
INVOKEAI = {"positive_prompt": "a dog", "model": {"name": "sdxl", "base": "sdxl"}}
AIGC = {"Label": "1", "ContentProducer": "Some Service", "ProduceID": "1"}


def text(keyword: str, value: object, kind: bytes = b"tEXt") -> bytes:
    """A text chunk, in one of the three ways."""
    data = (value if isinstance(value, str) else json.dumps(value)).encode()
    between = {b"tEXt": b"\0", b"zTXt": b"\0\0", b"iTXt": b"\0\1\0\0\0"}[kind]
    return chunk(
        kind, keyword.encode() + between + (data if kind == b"tEXt" else zlib.compress(data))
    )


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt"])
@pytest.mark.parametrize("late", [False, True])
def test_web_ui(kind, late):
    one = text("parameters", WEB_UI, kind)
    found = read_provenance(png(late=[one]) if late else png(one))
    (settings,) = found.generators
    assert settings.tool == "a Stable Diffusion web UI (v1.9.4)"
    assert (settings.where, settings.model) == ("PNG text parameters", "sd_xl_base_1.0")
    assert settings.prompt == "portrait of a woman, 85mm"
    assert (found.claims[0].says, found.claims[0].trust) == (Says.GENERATED, Trust.UNSIGNED)
    assert "sd_xl_base_1.0" in found.summary and "anyone can write it" in found.summary
    assert found.errors == ()


@pytest.mark.parametrize(
    ("keyword", "value", "tool", "model", "prompt"),
    [
        ("prompt", GRAPH, "ComfyUI", "flux1-dev.safetensors", "a man at a desk"),
        ("workflow", DRAWN, "ComfyUI", "", ""),
        ("Comment", NOVELAI, "NovelAI", "", "girl"),
        ("Title", "AI generated image", "NovelAI", "", ""),
        ("Software", "NovelAI", "NovelAI", "", ""),
        ("parameters", FOOOCUS, "Fooocus", "juggernautXL_v8", "a cat"),
        ("invokeai_metadata", INVOKEAI, "InvokeAI", "sdxl", "a dog"),
        ("use_stable_diffusion_model", "sd-v1-5", "Easy Diffusion", "sd-v1-5", ""),
        (
            "Description",
            "a fox --v 6 Job ID: 01234567-89ab-cdef-0123-456789abcdef",
            "Midjourney",
            "",
            "a fox --v 6",
        ),
        ("AIGC", AIGC, "the AIGC label: it is generated, by Some Service", "", ""),
    ],
)
def test_generators(keyword, value, tool, model, prompt):
    found = read_provenance(png(text(keyword, value)))
    (settings,) = found.generators
    assert (settings.tool, settings.model, settings.prompt) == (tool, model, prompt)
    assert found.says_generated and found.errors == ()


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("parameters", "exposure 1/60"),
        ("prompt", "press any key"),
        ("workflow", {"approved": True}),
        ("Comment", "Created with GIMP"),
        ("Comment", {"rating": 5}),
        ("Software", "Adobe Photoshop 25.0"),
        ("Description", "Editor de imagen"),
        ("Title", "Grokking algorithms"),
    ],
)
def test_other_texts_are_no_claims(keyword, value):
    found = read_provenance(png(text(keyword, value)))
    assert not found.says_generated and found.generators == ()


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "PNG", "TIFF", "AVIF"])
def test_exif(format):
    if format == "AVIF" and "AVIF" not in Image.SAVE:
        pytest.skip("needs a Pillow that writes AVIF")
    tags = exif(
        Make="Canon", Model="EOS R5", Software="dcraw", DateTimeOriginal="2024:05:06 07:08:09"
    )
    found = read_provenance(picture(format, exif=tags))
    assert found.camera
    assert (found.camera.make, found.camera.software) == ("Canon", "dcraw")
    first, second = found.claims
    assert (first.says, first.text) == (Says.CAPTURED, "camera Canon EOS R5, 2024:05:06 07:08:09")
    assert (second.says, second.text) == (Says.SOFTWARE, "dcraw")
    assert found.errors == () and not found.says_generated


@pytest.mark.parametrize(
    "comment",
    [
        b"UNICODE\0" + WEB_UI.encode("utf-16-be"),
        b"UNICODE\0" + WEB_UI.encode("utf-16-le"),
        b"ASCII\0\0\0" + WEB_UI.encode(),
    ],
    ids=["utf-16-be", "utf-16-le", "ascii"],
)
@pytest.mark.parametrize("format", ["JPEG", "WEBP"])
def test_parameters_in_exif(format, comment):
    found = read_provenance(picture(format, exif=exif(UserComment=comment)))
    assert found.generators[0].model == "sd_xl_base_1.0"
    assert found.claims[0].text.startswith("EXIF UserComment holds settings")


def test_comfyui_graph_where_cameras_have_their_names():
    tags = exif(Make="workflow:" + json.dumps(DRAWN), Model="prompt:" + json.dumps(GRAPH))
    found = read_provenance(picture("WEBP", exif=tags))
    assert {one.tool for one in found.generators} == {"ComfyUI"}
    assert found.camera is None and all(one.says is Says.GENERATED for one in found.claims)


def test_generator_named_as_software():
    found = read_provenance(picture(exif=exif(Software="Adobe Firefly 3")))
    assert found.says_generated


TYPE = f"{IPTC}trainedAlgorithmicMedia"


@pytest.mark.parametrize(
    "packet",
    [
        xmp(attributes=f'Iptc4xmpExt:DigitalSourceType="{TYPE}"'),
        xmp(f"<Iptc4xmpExt:DigitalSourceType>{TYPE}</Iptc4xmpExt:DigitalSourceType>"),
        xmp(f'<Iptc4xmpExt:DigitalSourceType rdf:resource="{TYPE}"/>'),
        xmp(
            "<Iptc4xmpExt:DigitalSourceType><rdf:Bag><rdf:li>"
            f"{TYPE}</rdf:li></rdf:Bag></Iptc4xmpExt:DigitalSourceType>"
        ),
        xmp(attributes='photoshop:Credit="Made with Google AI"'),
        xmp("<Iptc4xmpExt:AISystemUsed>Some model</Iptc4xmpExt:AISystemUsed>"),
        xmp("<TC260:AIGC>" + json.dumps(AIGC) + "</TC260:AIGC>"),
    ],
    ids=["attribute", "element", "resource", "bag", "credit", "system", "aigc"],
)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_xmp(format, packet):
    if format == "PNG":
        data = png(chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet))
    else:
        data = picture(format, xmp=packet)
    found = read_provenance(data)
    assert [one.says for one in found.claims] == [Says.GENERATED]
    assert found.claims[0].source == "xmp" and found.errors == ()


def test_xmp_of_an_editor():
    packet = xmp(attributes='xmp:CreatorTool="Adobe Photoshop 25.0" photoshop:Credit="A. Person"')
    found = read_provenance(picture(xmp=packet))
    assert [(one.says, one.text) for one in found.claims] == [
        (Says.SOFTWARE, "Adobe Photoshop 25.0")
    ]


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("quality", [1, 30, 50, 75, 92, 100])
def test_tables_of_libjpeg(quality, grey):
    stream = io.BytesIO()
    image = Image.open(io.BytesIO(picture("PNG"))).convert("L" if grey else "RGB")
    image.save(stream, "JPEG", quality=quality, subsampling=0, progressive=True)
    tables = read_provenance(stream.getvalue()).jpeg
    assert tables and (tables.family, tables.quality) == ("ijg", quality)
    assert tables.progressive and tables.subsampling == (0 if grey else 1)


@pytest.mark.parametrize("preset", sorted(presets))
def test_tables_of_photoshop(preset):
    tables = read_provenance(picture(qtables=preset)).jpeg
    assert tables and tables.family == "photoshop"


def test_tables_of_mozjpeg_and_of_others():
    robidoux = [16, 16, 16, 18, 25, 37, 56, 85, 16, 17, 20, 27, 34, 40, 53, 75]
    robidoux += [16, 20, 24, 31, 43, 62, 91, 135, 18, 27, 31, 40, 53, 74, 106, 156]
    robidoux += [25, 34, 43, 53, 69, 94, 131, 189, 37, 40, 62, 74, 94, 124, 169, 238]
    robidoux += [56, 53, 91, 106, 131, 169, 226, 255, 85, 75, 135, 156, 189, 238, 255, 255]
    tables = read_provenance(picture(qtables=[robidoux, robidoux])).jpeg
    assert tables and (tables.family, tables.quality) == ("mozjpeg", 50)
    robidoux[0] = 3
    tables = read_provenance(picture(qtables=[robidoux, robidoux])).jpeg
    assert tables and tables.family == "other"
    assert read_provenance(picture("PNG")).jpeg is None


def test_nothing_said():
    found = read_provenance(picture())
    assert found.claims == () and found.errors == ()
    assert found.summary.startswith("The file does not say how it was made. What is missing proves")
