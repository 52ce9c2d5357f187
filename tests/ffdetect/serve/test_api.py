"""What the API answers: right answers, the same shape for everything that goes wrong, limits."""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
import zipfile
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from ffdetect import Detector
from ffdetect.serve import schemas
from ffdetect.serve.app import Service
from ffdetect.serve.settings import Settings
from ffdetect.voice import VoiceDetector

from ..helpers import encode
from ..provenance import files
from .conftest import wave_file
from .running import until


def problem(answer, status: int, code: str) -> str:
    """Checks the shape of an error; its message."""
    body = answer.json()
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code), body
    assert answer.headers["content-type"] == "application/problem+json"
    assert set(body) == {"type", "title", "status", "code", "detail", "request_id"}
    assert body["request_id"] == answer.headers["x-request-id"] != ""
    return body["detail"]


@pytest.fixture(scope="module")
def fast() -> Detector:
    return Detector.load("fast", "cpu")


def test_a_picture_is_analysed_as_by_the_detector(service, fast, portrait):
    body = service.images(portrait).json()
    expected = fast.analyze(portrait)
    (image,) = body["images"]
    assert (image["width"], image["height"], image["name"]) == (512, 512, "0.jpg")
    (face,), (wanted,) = image["faces"], expected.faces
    assert list(face["box"].values()) == wanted.box.tolist()
    assert face["score"] == pytest.approx(wanted.score, abs=1e-3)
    assert (face["verdict"], len(face["reasons"])) == (wanted.verdict, len(wanted.reasons))
    assert face["quality"]["jpeg_quality"] == 90 and face["quality"]["format"] == "jpeg"
    assert body["weights"] == "fast"
    (quick,) = service.images(portrait, verdict=False).json()["images"][0]["faces"]
    assert quick["verdict"] is None and quick["score"] == pytest.approx(wanted.score, abs=1e-3)


def test_what_a_file_says_of_itself_stands_beside_the_scores(service, portrait):
    pytest.importorskip("c2pa")
    plain, said = service.images(portrait, files.signed(portrait, files.created())).json()["images"]
    assert plain["provenance"]["claims"] == [] and not plain["provenance"]["says_generated"]
    assert plain["provenance"]["jpeg"]["quality"] == 90
    (claim, *_) = said["provenance"]["claims"]
    assert said["provenance"]["says_generated"] and said["provenance"]["errors"] == []
    assert (claim["says"], claim["source"]) == ("generated", "c2pa")
    assert "Tests" in claim["signer"] and claim["trust"].startswith("signed, and unchanged")
    scores = [picture["faces"][0]["score"] for picture in (plain, said)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-3)
    (quick,) = service.images(portrait, verdict=False, provenance=False).json()["images"]
    assert quick["provenance"] is None


def test_provenance_that_cannot_be_read_is_no_error_of_the_picture(service, astronaut):
    hostile = encode(astronaut, "JPEG", xmp=b"<!DOCTYPE x [<!ENTITY a 'b'>]><x>&a;</x>")
    (image,) = service.images(hostile).json()["images"]
    assert len(image["faces"]) == 1 and image["error"] is None
    (error,) = image["provenance"]["errors"]
    assert error["source"] == "xmp"


def test_several_pictures_keep_their_order_and_their_own_errors(service, portrait, noise):
    empty = encode(noise, "PNG")
    first, second, third = service.images(portrait[:5000], portrait, empty).json()["images"]
    assert first["error"]["code"] == "unreadable" and first["faces"] == []
    assert second["error"] is None and len(second["faces"]) == 1
    assert third["error"] is None and third["faces"] == []  # no face is no error


def test_only_the_largest_faces_are_scored(service, astronaut):
    two = np.zeros((512, 800, 3), np.uint8)
    two[:, :512], two[:288, 512:] = astronaut, astronaut[64:352, 80:368]
    (image,) = service.images(encode(two, "PNG")).json()["images"]
    assert len(image["faces"]) == image["faces_left_out"] == 1
    assert image["faces"][0]["box"]["left"] < 300


def bomb() -> bytes:
    return encode(np.zeros((1100, 1100, 3), np.uint8), "PNG")


def packed() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("picture.png", bytes(1000))
    return stream.getvalue()


@pytest.mark.parametrize(
    ("make", "status", "code"),
    [
        (lambda portrait: b"", 415, "unsupported_type"),
        (lambda portrait: b"no picture at all", 415, "unsupported_type"),
        (lambda portrait: packed(), 415, "unsupported_type"),
        (lambda portrait: wave_file(1), 415, "unsupported_type"),
        (lambda portrait: portrait[:5000], 422, "unreadable"),
        (lambda portrait: b"\xff\xd8\xff\xe0" + bytes(99), 422, "unreadable"),
        (lambda portrait: bomb(), 413, "too_large"),
        (lambda portrait: portrait + bytes(2**20), 413, "too_large"),
        (lambda portrait: bytes(2**22), 413, "too_large"),
    ],
    ids="empty text zip sound truncated header pixels bytes body".split(),
)
def test_what_is_no_picture_gets_an_error_of_one_shape(service, portrait, make, status, code):
    assert problem(service.images(make(portrait)), status, code).startswith("expected ")


def test_requests_that_make_no_sense(service, portrait):
    post = service.client.post
    assert "multipart" in problem(post("/v1/images", content=portrait), 415, "unsupported_type")
    named = post("/v1/images", files={"other": portrait})
    assert '"files"' in problem(named, 422, "invalid_request")
    asked = service.images(portrait, verdict="maybe")
    assert "verdict" in problem(asked, 422, "invalid_request")
    problem(service.images(*[portrait] * 4), 400, "bad_request")
    broken = {"content-type": "multipart/form-data; boundary=x"}
    problem(post("/v1/images", content=b"--y\r\n", headers=broken), 400, "bad_request")
    problem(service.client.get("/v1/nothing"), 404, "not_found")
    problem(service.client.get("/v1/jobs/0"), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/images", "POST"),
        ("PUT", "/v1/jobs/0", "DELETE, GET"),
        ("PATCH", "/v1/health", "GET"),
        ("POST", "/metrics", "GET"),
    ],
)
def test_another_method_is_told_which_there_are(service, method, path, allowed):
    answer = service.client.request(method, path)
    problem(answer, 405, "method_not_allowed")
    assert answer.headers["allow"] == allowed


def test_head_is_get_without_a_body(service):
    for path, status in (("/v1/health", 200), ("/metrics", 200), ("/v1/nothing", 404)):
        answer = service.client.head(path)
        assert (answer.status_code, answer.content) == (status, b"")


def part(name: bytes, content: bytes) -> bytes:
    head = b'--x\r\nContent-Disposition: form-data; name="files"; ' + name
    return head + b"\r\n\r\n" + content + b"\r\n"


FORM = {"content-type": "multipart/form-data; boundary=x"}


def test_no_part_of_a_form_is_lost_without_a_word(service, portrait):
    whole = part(b'filename="a"', portrait) + part(b'filename="b"', portrait) + b"--x--\r\n"
    answer = service.client.post("/v1/images", content=whole, headers=FORM)
    assert [image["name"] for image in answer.json()["images"]] == ["a", "b"]
    for cut in (4, 8, 2000):
        answer = service.client.post("/v1/images", content=whole[:-cut], headers=FORM)
        assert "end is missing" in problem(answer, 400, "bad_request")


def test_names_may_be_sent_in_the_extended_way(service, portrait):
    """As older versions of Python's requests do it for names that are not ASCII."""
    form = part(b"filename*=utf-8''sm%C3%B6r%22g.jpg", portrait) + b"--x--\r\n"
    answer = service.client.post("/v1/images", content=form, headers=FORM)
    assert answer.json()["images"][0]["name"] == "smör_g.jpg"


def raw(service, request: bytes, patience: float = 5) -> httpx.Response:
    """The answer to bytes that no client would send."""
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), patience) as connection:
        connection.sendall(request)
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return httpx.Response(answer.status, headers=answer.getheaders(), content=answer.read())


@pytest.mark.parametrize(
    "request_", [b"\x16\x03\x01\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"]
)
def test_what_is_no_http_gets_the_same_shape(service, request_):
    assert "HTTP/1.1" in problem(raw(service, request_), 400, "bad_request")


def test_far_too_much_is_not_waited_for(service):
    head = "POST /v1/clips HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n"
    head += f"Content-Type: {FORM['content-type']}\r\n\r\n"
    problem(raw(service, head.encode()), 413, "too_large")


def test_whoever_goes_away_is_no_failure_of_the_service(service):
    before = service.log().count("Traceback")
    host, port = service.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        head = "POST /v1/images HTTP/1.1\r\nHost: x\r\nX-Request-ID: gone-away\r\n"
        head += "Content-Type: multipart/form-data; boundary=x\r\nContent-Length: 99\r\n\r\n--x"
        connection.sendall(head.encode())
    found = until(lambda: [e for e in service.events() if e.get("request") == "gone-away"])
    assert [(e["event"], e["status"]) for e in found] == [("request", 499)]
    assert service.log().count("Traceback") == before


def test_clips_have_a_limit_of_their_own(tmp_path):
    settings = Settings(max_media_mb=2, max_image_mb=20)
    limits = Service(settings, tmp_path).body_limit
    assert limits("/v1/clips") == limits("/v1/sounds") < 3 * 2**20 < limits("/v1/images")


def test_a_clip_is_answered_by_a_job(service, clip):
    answer = service.client.post("/v1/clips", files={"file": ("talk.mp4", clip)})
    assert answer.status_code == 202 and answer.json()["state"] in ("queued", "running")
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    done = service.wait(answer.headers["location"])
    assert (done["state"], done["progress"], done["kind"]) == ("done", 1, "clip"), done
    result = done["result"]
    assert result["name"] == "talk.mp4" and 0 < result["score"] < 1
    assert len(result["tracks"]) == 1 and len(result["tracks"][0]["frames"]) == 3
    assert result["windows"] and result["voice"] is not None
    said = result["provenance"]
    assert "mp4" in said["container"]["format"] and said["container"]["encoder"].startswith("Lavf")
    assert str(service.folder) not in json.dumps(done)
    assert done["expires"] > done["created"]
    deleted = service.client.delete(answer.headers["location"])
    assert deleted.status_code == 200
    problem(service.client.get(answer.headers["location"]), 404, "not_found")
    assert service.files() == []


def test_a_sound_is_scored_as_by_the_detector(service, sound, tmp_path):
    (tmp_path / "sound.wav").write_bytes(sound)
    expected = VoiceDetector.load().analyze(tmp_path / "sound.wav")
    result = service.job("sounds", sound)["result"]
    assert result["score"] == pytest.approx(expected.score, abs=1e-3)
    assert [w["end"] for w in result["windows"]] == [w.end for w in expected.windows]
    assert result["provenance"]["container"]["format"] == "wav"


@pytest.mark.parametrize(
    ("kind", "make", "code"),
    [
        ("sounds", lambda clip: wave_file(25), "too_large"),
        ("clips", lambda clip: wave_file(25), "too_large"),
        ("clips", lambda clip: clip[:300], "unreadable"),
        ("sounds", lambda clip: wave_file(0.1), "unreadable"),
        ("sounds", lambda clip: packed(), "unsupported_type"),
    ],
    ids="long-sound long-clip truncated short zip".split(),
)
def test_the_error_of_a_job_is_part_of_it(service, clip, kind, make, code):
    done = service.job(kind, make(clip))
    assert (done["state"], done["result"], done["error"]["code"]) == ("failed", None, code)
    assert done["error"]["detail"].startswith("expected ")  # without a name of ours
    assert str(service.folder) not in json.dumps(done)
    assert service.files() == []


def test_what_is_clearly_no_clip_becomes_no_job(service, portrait):
    for file in (b"", b"text", portrait):
        answer = service.client.post("/v1/clips", files={"file": file})
        problem(answer, 415, "unsupported_type")
    problem(service.client.post("/v1/clips", files={"file": bytes(2**22)}), 413, "too_large")


def test_names_are_shown_and_never_make_a_path(service, portrait, sound):
    names = [
        "../../etc/passwd",
        "a\\b\\c.jpg",
        "<img src=x>.jpg",
        "x" * 500,
        "n\u00fcr.jpg",
        "..",
        "\r\n",
    ]
    for name in names:
        sent = [("files", (name, portrait)), ("files", ("other", portrait))]
        shown = service.client.post("/v1/images", files=sent, params={"verdict": False}).json()
        text = shown["images"][0]["name"]
        assert text and len(text) <= 120 and not re.search(r"[/\\<>\r\n]", text), text
    done = service.job("sounds", sound, "../../../sound.wav")
    assert done["result"]["name"] == "sound.wav"
    assert service.files() == []


def test_no_url_is_fetched(service):
    """Not even one that is sent in place of a file, or inside of one."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.3)
        url = f"http://127.0.0.1:{server.getsockname()[1]}/picture.jpg"
        list_ = f"#EXTM3U\n#EXTINF:2,\n{url}\n#EXT-X-ENDLIST\n".encode()
        service.client.post("/v1/images", files={"files": (url, url.encode())})
        service.client.post("/v1/images", data={"files": url})
        service.client.post("/v1/clips", files={"file": (url, list_)})
        service.client.get(f"/gradio_api/file={url}")
        service.client.get(f"/gradio_api/proxy={url}")
        with pytest.raises(TimeoutError):
            server.accept()


def test_ids_headers_logs_and_metrics(service, portrait):
    given = service.client.get("/v1/health", headers={"X-Request-ID": "abc-1"})
    assert given.json() == {"status": "ok"} and given.headers["x-request-id"] == "abc-1"
    forged = service.client.get("/v1/health", headers={"X-Request-ID": 'a"b c'})
    assert re.fullmatch("[0-9a-f]{16}", forged.headers["x-request-id"])
    own = service.client.post(
        "/v1/images",
        files={"files": ("secret-name.jpg", portrait)},
        headers={"X-Request-ID": "own"},
    )
    assert own.headers["x-content-type-options"] == "nosniff"
    (line,) = [event for event in service.events() if event.get("request") == "own"]
    assert (line["event"], line["route"], line["status"]) == ("request", "/v1/images", 200)
    assert line["bytes"] > len(portrait)
    assert "secret-name" not in service.log()
    metrics = service.client.get("/metrics").text
    assert 'ffdetect_requests_total{route="/v1/images",status="200"}' in metrics
    assert 'ffdetect_pictures_total{outcome="scored"}' in metrics
    assert "ffdetect_workers_ready" in metrics and "ffdetect_batch_size_count" in metrics


def test_the_version_tells_of_the_weights(service, fast):
    version = service.client.get("/v1/version").json()
    assert version["weights"] == "fast" and "Model card" in version["card"]
    expected = {f"{rate:g}": score for rate, score in fast.thresholds.items()}
    assert version["thresholds"] == pytest.approx(expected)


def test_openapi_describes_what_is_answered(service):
    api = service.client.get("/openapi.json").json()
    post = api["paths"]["/v1/images"]["post"]
    assert {"200", "401", "408", "413", "415", "422", "429", "503"} <= post["responses"].keys()
    assert "multipart/form-data" in post["requestBody"]["content"]
    for model in (schemas.Quality, schemas.Window, schemas.Job, schemas.Ready, schemas.Version):
        described = api["components"]["schemas"][model.__name__]["properties"]
        given = {name: one["examples"][0] for name, one in described.items() if "examples" in one}
        assert len(given) >= len(described) - 3
        for name, example in given.items():
            model.__pydantic_validator__.validate_assignment(model.model_construct(), name, example)
    examples = post["responses"]["413"]["content"]["application/problem+json"]["examples"]
    assert examples["too_large"]["value"]["status"] == 413


def test_pictures_of_several_users_make_one_batch(service, portrait):
    def batches() -> tuple[float, float]:
        text = service.client.get("/metrics").text
        values = [re.search(rf"ffdetect_batch_size_{x} (\S+)", text) for x in ("sum", "count")]
        return tuple(float(value[1]) for value in values if value)

    pictures, count = batches()
    with ThreadPoolExecutor(12) as users:
        answers = list(users.map(lambda _: service.images(portrait, verdict=False), range(12)))
    assert {answer.status_code for answer in answers} == {200}
    scores = [answer.json()["images"][0]["faces"][0]["score"] for answer in answers]
    assert max(scores) - min(scores) < 1e-3
    more, later = batches()
    assert more - pictures == 12 and later - count < 12


def test_beyond_the_queue_requests_are_turned_away_and_later_taken(service, portrait):
    with ThreadPoolExecutor(40) as users:
        answers = list(users.map(lambda _: service.images(portrait, portrait, portrait), range(40)))
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(answers) - len(refused) >= 5  # what fits into the queue at once
    assert refused
    for answer in refused:
        problem(answer, 429, "queue_full")
        assert answer.headers["retry-after"] == "1"
    assert service.images(portrait).status_code == 200
