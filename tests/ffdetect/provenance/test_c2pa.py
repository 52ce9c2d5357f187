"""C2PA manifests that were signed here: validated, attributed, and never fetched."""

from __future__ import annotations

import http.server
import io
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ffdetect.provenance import Claim, Says, Trust, read_provenance

from .files import authority, clip, created, picture, signed

pytest.importorskip("c2pa")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_generated_picture(format):
    found = read_provenance(signed(picture(format), created(), format))
    (manifest,) = found.manifests
    assert (manifest.active, manifest.signer) == (True, "Tests, Camera Maker")
    assert (manifest.trust, manifest.failures) == (Trust.VALID, ())
    assert manifest.actions[0].source_type == "trainedAlgorithmicMedia"
    text = "c2pa.created, trainedAlgorithmicMedia by Made Up 1.0"
    assert found.claims[0] == Claim(Says.GENERATED, text, "c2pa", manifest.signer, Trust.VALID)
    assert found.says_generated and "nobody vouches" in found.summary
    assert found.errors == () and found.not_read == ()


def test_generated_clip(tmp_path):
    file = tmp_path / "made.mp4"
    file.write_bytes(signed(clip(tmp_path / "plain.mp4").read_bytes(), created(), "MP4"))
    found = read_provenance(file)
    assert found.says_generated and found.manifests[0].trust is Trust.VALID
    assert found.container and "mp4" in found.container.format


@pytest.mark.parametrize(
    ("source_type", "says"),
    [
        ("compositeWithTrainedAlgorithmicMedia", Says.PARTLY_GENERATED),
        ("algorithmicMedia", Says.GENERATED),
        ("algorithmicallyEnhanced", Says.EDITED),
        ("digitalCapture", Says.CAPTURED),
        ("digitalCreation", Says.MADE_BY_HAND),
    ],
)
def test_source_types(source_type, says):
    found = read_provenance(signed(picture(), created(source_type)))
    assert found.claims[0].says is says
    assert found.says_generated is (says in (Says.GENERATED, Says.PARTLY_GENERATED))


def test_edits_without_a_source_type():
    actions = [*created("digitalCapture"), {"action": "c2pa.cropped"}, {"action": "c2pa.filtered"}]
    found = read_provenance(signed(picture(), actions))
    edit, capture = found.claims
    assert (edit.says, edit.text) == (Says.EDITED, "c2pa.cropped, c2pa.filtered")
    assert capture.says is Says.CAPTURED


def test_ingredient():
    made = signed(picture(), created())
    opened = {"action": "c2pa.opened", "parameters": {"ingredientIds": ["source"]}}
    found = read_provenance(signed(made, [opened, {"action": "c2pa.cropped"}], ingredient=made))
    assert [one.active for one in found.manifests] == [True, False]
    assert found.claims[0].says is Says.GENERATED
    assert found.claims[0].text.startswith("an ingredient: ")


def test_changed_picture_breaks_the_signature():
    data = bytearray(signed(picture(), created()))
    data[-20] ^= 1  # a pixel
    found = read_provenance(bytes(data))
    assert found.manifests[0].trust is Trust.INVALID
    assert "assertion.dataHash.mismatch" in found.manifests[0].failures
    assert "assertion.dataHash.mismatch" in found.claims[0].text
    assert "does not hold" in found.summary


def test_trust_list(tmp_path):
    ours, other = tmp_path / "ours.pem", tmp_path / "other.pem"
    ours.write_bytes(authority())
    data = signed(picture(), created())
    assert read_provenance(data, trust_list=ours).manifests[0].trust is Trust.TRUSTED
    other.write_text("no certificates")
    with pytest.raises(ValueError, match="expected certificates in PEM but got none"):
        read_provenance(data, trust_list=other)
    with pytest.raises(ValueError, match=r"missing\.pem"):
        read_provenance(data, trust_list=tmp_path / "missing.pem")


def test_manifests_elsewhere_are_not_fetched():
    asked: list[str] = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/x.c2pa"
        data = signed(picture(), created(), remote=url, embed=False)
        found = read_provenance(data)
        assert asked == []
        import c2pa

        with pytest.raises(c2pa.C2paError):  # as the library would by itself
            c2pa.Reader(None, io.BytesIO(data))
        assert asked == ["/x.c2pa"]
        server.shutdown()
    (error,) = found.errors
    assert "was not fetched" in error.message and url in error.message
    assert found.claims == ()


def test_without_the_library(tmp_path):
    file = tmp_path / "made.jpg"
    file.write_bytes(signed(picture(), created()))
    code = (
        "import sys; sys.modules['c2pa'] = None\n"
        "import importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'c2pa' else find(name, *rest)\n"
        "from ffdetect.provenance import read_provenance\n"
        "found = read_provenance(sys.argv[1])\n"
        "print(found.claims, found.errors, found.not_read)"
    )
    root = Path(__file__).resolve().parents[3]
    ran = subprocess.run(
        [sys.executable, "-c", code, str(file)], capture_output=True, text=True, cwd=root
    )
    assert ran.stdout.startswith("() () (") and "ffdetect[provenance]" in ran.stdout, ran.stderr
