from __future__ import annotations

import struct
import tracemalloc
import wave
from pathlib import Path

import av
import numpy as np
import pytest
from scipy.signal import resample_poly

from preprocess.io.decode import DecodeError
from preprocess.io.formats import SAMPLE_RATE
from preprocess.io.sound import NoSoundError, SoundReader, sound_blocks
from tests.preprocess.sounds import buzz, write_sound


def read(file: Path, seconds: float = 1.0) -> np.ndarray:
    with SoundReader(file) as reader:
        return np.concatenate(list(reader.blocks(seconds)))


@pytest.mark.parametrize("suffix", "wav flac mp3 m4a ogg mp4 mov mkv webm".split())
def test_every_format_gives_the_same_sound(tmp_path: Path, suffix: str) -> None:
    sound = buzz(2.0, 48_000)
    heard = read(write_sound(tmp_path / f"a.{suffix}", sound, 48_000))
    expected = resample_poly(sound, 1, 3)
    assert heard.dtype == np.float32
    assert abs(len(heard) - len(expected)) < 0.1 * SAMPLE_RATE
    lag = np.argmax(np.correlate(heard, expected[8000:16000], "valid")) - 8000
    assert abs(lag) < 0.07 * SAMPLE_RATE
    part = heard[8000 + lag : 16000 + lag]
    assert np.corrcoef(part, expected[8000:16000])[0, 1] > 0.95


def test_blocks_are_of_one_length_but_the_last(tmp_path: Path) -> None:
    file = write_sound(tmp_path / "a.wav", buzz(2.5))
    with SoundReader(file) as reader:
        assert [len(block) for block in reader.blocks(1.0)] == [16000, 16000, 8000]
        assert reader.format.codec == "pcm_s16le" and reader.format.sample_rate == 16000


def test_eight_channels_and_192_khz(tmp_path: Path) -> None:
    sound = np.stack([buzz(1.0, 192_000)] * 8)
    file = write_sound(tmp_path / "a.flac", sound, 192_000, layout="7.1")
    heard = read(file)
    assert abs(len(heard) - 16_000) < 200
    expected = resample_poly(sound[0], 1, 12)
    assert np.corrcoef(heard[2000:14000], expected[2000:14000])[0, 1] > 0.99


def test_twenty_minutes_in_bounded_memory(tmp_path: Path) -> None:
    file = write_sound(tmp_path / "a.flac", np.zeros(60 * 8000), 8000, repeat=20)
    tracemalloc.start()
    with SoundReader(file) as reader:
        seconds = sum(len(block) for block in reader.blocks(4.0)) / SAMPLE_RATE
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds == pytest.approx(1200, abs=1)
    assert peak < 20 * 2**20


def test_header_that_lies_about_its_length(tmp_path: Path) -> None:
    file = write_sound(tmp_path / "a.wav", buzz(1.0))
    data = bytearray(file.read_bytes())
    at = data.index(b"data") + 4
    data[at : at + 4] = struct.pack("<I", 0x7FFFFFF0)
    file.write_bytes(data)
    assert len(read(file)) == 16_000


def test_broken_tail_yields_what_is_there(tmp_path: Path) -> None:
    file = write_sound(tmp_path / "a.mp3", buzz(4.0))
    file.write_bytes(file.read_bytes()[:-3000])
    assert 2 * 16_000 < len(read(file)) < 4.2 * 16_000


@pytest.mark.parametrize(
    ("suffix", "codec"), [("ogg", ""), ("flac", ""), ("mkv", ""), ("ts", "aac")]
)
def test_what_never_became_a_packet_is_counted(tmp_path: Path, suffix: str, codec: str) -> None:
    whole = write_sound(tmp_path / f"a.{suffix}", buzz(8.0, 48_000), 48_000, codec)
    data = whole.read_bytes()
    tenth = len(data) // 10
    bad = tmp_path / f"bad.{suffix}"
    bad.write_bytes(data[: 4 * tenth] + bytes(tenth) + data[5 * tenth :])
    for file, damaged in ((whole, False), (bad, True)):
        with SoundReader(file) as reader:
            heard = sum(map(len, reader.blocks(1.0))) / SAMPLE_RATE
            assert (heard < 7.7) == damaged
            [note] = reader.notes() or [""]
            assert ("damaged packets of sound skipped" in note) == damaged


def test_recordings_of_ogg_put_one_after_the_other_are_whole(tmp_path: Path) -> None:
    file = write_sound(tmp_path / "a.ogg", buzz(2.0, 48_000), 48_000)
    file.write_bytes(3 * file.read_bytes())
    with SoundReader(file) as reader:
        assert sum(map(len, reader.blocks(1.0))) / SAMPLE_RATE == pytest.approx(6, abs=0.2)
        assert reader.notes() == []


@pytest.mark.parametrize("suffix", "wav flac mkv aiff au w64 caf mp3".split())
def test_a_missing_tail_is_said(tmp_path: Path, suffix: str) -> None:
    big, little = dict.fromkeys(("aiff", "au", "caf"), "pcm_s16be"), {"w64": "pcm_s16le"}
    codec = (big | little).get(suffix, "")
    file = write_sound(tmp_path / f"a.{suffix}", buzz(6.0, 48_000), 48_000, codec)
    for share in (1, 0.5):
        file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
        with SoundReader(file) as reader:
            heard = sum(map(len, reader.blocks(1.0))) / SAMPLE_RATE
            said = [f"the sound ends at {heard:.1f} s of 6.0 s"] if share < 1 else []
            assert [note for note in reader.notes() if "damaged" not in note] == said


@pytest.mark.parametrize("suffix", ["wav", "m4a"])
def test_recordings_of_which_players_hear_the_first_alone(tmp_path: Path, suffix: str) -> None:
    file = write_sound(tmp_path / f"a.{suffix}", buzz(2.0))
    for times in (1, 2):
        file.write_bytes(times * file.read_bytes())
        with SoundReader(file) as reader:
            assert sum(map(len, reader.blocks(1.0))) / SAMPLE_RATE == pytest.approx(2, abs=0.2)
            assert ["another recording follows" in note for note in reader.notes()] == [True] * (
                times - 1
            )


def test_names_longer_than_the_file_are_refused_before_memory_is_taken_for_them(tmp_path: Path):
    file = write_sound(tmp_path / "a.wav", buzz(0.2))
    data = file.read_bytes()
    names = b"LIST\xff\xff\xff\x7fINFOIART" + struct.pack("<I", 0x70000000)
    file.write_bytes(data[:36] + names + data[36:])
    with pytest.raises(DecodeError, match="list of names is longer than it"):
        SoundReader(file)
    cut = b"LIST" + struct.pack("<I", 40) + b"INFOIART" + struct.pack("<I", 28) + b"som"
    file.write_bytes(data + cut)  # of a tail that is cut off the sound is whole
    assert sum(len(block) for block in SoundReader(file).blocks(1.0)) == 3200


def test_what_is_no_sound_is_named(tmp_path: Path) -> None:
    text = tmp_path / "text.wav"
    text.write_text("these are words\n" * 100)
    empty = tmp_path / "empty.wav"
    empty.touch()
    for file in (text, empty, tmp_path / "none.wav", tmp_path):
        with pytest.raises(DecodeError, match=f"{file}: expected a clip or an audio file"):
            SoundReader(file)
    with pytest.raises(DecodeError, match="expected a path but got NoneType"):
        SoundReader(None)  # type: ignore[arg-type]
    url = "https://example.org/a.wav"
    with pytest.raises(DecodeError, match=f"^{url}: expected a path but got a URL"):
        SoundReader(url)


def test_play_list_is_not_followed(tmp_path: Path) -> None:
    write_sound(tmp_path / "secret.wav", buzz(1.0))
    file = tmp_path / "list.wav"
    file.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.wav\n#EXT-X-ENDLIST\n")
    with pytest.raises(DecodeError):
        SoundReader(file)


def test_clip_without_sound_and_sound_of_no_length(tmp_path: Path) -> None:
    silent = tmp_path / "a.mp4"
    with av.open(str(silent), "w") as output:
        stream = output.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8))
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with pytest.raises(NoSoundError, match=r"a\.mp4.*no audio stream"):
        SoundReader(silent)
    none = write_sound(tmp_path / "b.wav", buzz(1.0))
    none.write_bytes(none.read_bytes()[: none.read_bytes().index(b"data") + 8])
    with pytest.raises(DecodeError, match=r"b\.wav"):
        read(none)


def test_samples_from_memory() -> None:
    sound = buzz(1.0, 48_000)
    stereo = np.stack([sound, sound], 1)
    whole = np.concatenate(list(sound_blocks(sound, 48_000, 0.3)))
    assert len(whole) == 16_000
    again = np.concatenate(list(sound_blocks((stereo * 32767).astype(np.int16), 48_000, 1.0)))
    assert np.abs(whole - again).max() < 1e-3
    swapped = np.concatenate(list(sound_blocks((stereo * 32767).astype(">i2"), 48_000, 1.0)))
    assert np.array_equal(again, swapped)
    for bad in (np.zeros((2, 2, 2), np.float32), np.zeros(9, np.int64), [[0.0], [0.0, 1.0]]):
        with pytest.raises(DecodeError, match="expected float or int16"):
            sound_blocks(bad, 16_000, 1.0)
    with pytest.raises(NoSoundError, match="0 samples"):
        sound_blocks(np.zeros(0, np.float32), 16_000, 1.0)
    with pytest.raises(DecodeError, match="finite"):
        list(sound_blocks(np.full(9, np.nan), 16_000, 1.0))


def test_tensors_that_numpy_does_not_take() -> None:
    torch = pytest.importorskip("torch")
    samples = torch.from_numpy(buzz(1.0))
    assert len(list(sound_blocks(samples, 16_000, 0.5))) == 2
    for bad in (samples.bfloat16(), samples.clone().requires_grad_()):
        with pytest.raises(DecodeError, match=r"expected float or int16 .* but got Tensor: "):
            sound_blocks(bad, 16_000, 1.0)


def test_a_name_that_no_file_system_takes() -> None:
    with pytest.raises(DecodeError, match=r"a\.wav: expected a clip .* cannot be read: File name"):
        SoundReader("a" * 5000 + "a.wav")


def test_the_next_stream_where_nothing_of_the_first_can_be_decoded(tmp_path: Path) -> None:
    file = tmp_path / "two.mkv"
    with av.open(str(file), "w") as out:
        first, second = (out.add_stream("flac", rate=16_000, layout="mono") for _ in range(2))
        for stream in (first, second):
            samples = (buzz(1.0) * 32767).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
            frame.sample_rate, frame.pts = 16_000, 0
            for packet in [*stream.encode(frame), *stream.encode()]:
                if stream is first:
                    bad = av.Packet(bytes(packet.size))
                    bad.pts, bad.dts, bad.time_base = packet.pts, packet.dts, packet.time_base
                    bad.stream, packet = stream, bad
                out.mux(packet)
    assert np.abs(read(file) - buzz(1.0)).max() < 1e-3


def test_a_title_that_is_no_text_does_no_harm(tmp_path: Path) -> None:
    file = write_sound(tmp_path / "a.m4a", buzz(1.0))
    data = file.read_bytes()
    assert data.count(b"SoundHandler") == 1
    file.write_bytes(data.replace(b"SoundHandler", b"Sound\x80\xffndler"))
    assert len(read(file)) > 15_000


@pytest.mark.parametrize("width", [1, 2, 4])
def test_more_channels_than_have_names_are_mixed_alike(tmp_path: Path, width: int) -> None:
    mono = buzz(1.0) * 0.5
    scaled = mono * (2 ** (8 * width - 1) - 1)
    channel = scaled + 128 if width == 1 else scaled
    values = channel.round().astype({1: np.uint8, 2: np.int16, 4: np.int32}[width])
    file = tmp_path / "many.wav"
    with wave.open(str(file), "wb") as out:
        out.setnchannels(20)
        out.setsampwidth(width)
        out.setframerate(SAMPLE_RATE)
        out.writeframes(np.repeat(values[:, None], 20, 1).tobytes())
    reader = SoundReader(file)
    got = np.concatenate(list(reader.blocks(4.0)))
    assert reader.format.channels == 20
    np.testing.assert_allclose(got, mono, atol=0.02 if width == 1 else 1e-3)


@pytest.mark.parametrize("rate", [None, float("nan"), float("inf"), "fast", 0])
def test_a_sample_rate_that_is_none(rate: object) -> None:
    with pytest.raises(DecodeError, match=r"expected .* but got"):
        sound_blocks(buzz(1.0), rate, 1.0)  # type: ignore[arg-type]


def test_infinite_samples_of_a_file_are_silent(tmp_path: Path) -> None:
    soundfile = pytest.importorskip("soundfile", reason="writes floating point")
    sound = buzz(1.0).astype(np.float32)
    sound[500:520], sound[600], sound[700] = np.nan, np.inf, -np.inf
    soundfile.write(tmp_path / "a.wav", sound, SAMPLE_RATE, subtype="FLOAT")
    assert np.array_equal(read(tmp_path / "a.wav"), np.where(np.isfinite(sound), sound, 0))


def test_coded_sound_that_is_far_too_loud_is_damaged(tmp_path: Path) -> None:
    """Of plain samples loudness is the file's own."""
    soundfile = pytest.importorskip("soundfile", reason="writes floating point")
    loud = np.sin(np.arange(16_000) / 20).astype(np.float32) * 9
    soundfile.write(tmp_path / "a.wav", loud, SAMPLE_RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "a.ogg", loud, SAMPLE_RATE, subtype="VORBIS")
    assert np.abs(read(tmp_path / "a.wav")).max() == pytest.approx(9, abs=0.01)
    assert np.abs(read(tmp_path / "a.ogg")).max() == 4


def test_sound_that_begins_late_in_a_broadcast(tmp_path: Path) -> None:
    """Its rate and channels are not known before its first packet."""
    parts = [tmp_path / "1.ts", tmp_path / "2.ts"]
    for part in parts:
        with av.open(str(part), "w") as out:
            video = out.add_stream("mpeg2video", rate=25)
            video.width, video.height, video.pix_fmt = 96, 64, "yuv420p"
            sound = (
                out.add_stream("mp2", rate=SAMPLE_RATE, layout="mono") if part != parts[0] else None
            )
            for number in range(50):
                picture = av.VideoFrame(96, 64, "yuv420p")
                picture.pts = number
                out.mux(video.encode(picture))
            if sound:
                samples = (buzz(2.0) * 32767).astype(np.int16)
                frame = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
                frame.sample_rate = SAMPLE_RATE
                for piece in av.AudioResampler("s16", "mono", SAMPLE_RATE, 1152).resample(frame):
                    out.mux(sound.encode(piece))
                out.mux(sound.encode())
            out.mux(video.encode())
    (tmp_path / "a.ts").write_bytes(40 * parts[0].read_bytes() + parts[1].read_bytes())
    with SoundReader(tmp_path / "a.ts") as reader:
        heard = np.concatenate(list(reader.blocks(1.0)))
        assert (reader.format.sample_rate, reader.format.channels) == (SAMPLE_RATE, 1)
    assert len(heard) / SAMPLE_RATE == pytest.approx(2, abs=0.2)
    assert np.abs(heard).max() > 0.1


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.mp3", "a.m4a", "a.webm"])
def test_channels_that_cancel_out_are_no_silence(tmp_path: Path, name: str) -> None:
    """One channel is the other's negative, as behind a cable wired the wrong way round."""
    sound = buzz(2.0, 48_000)
    both = write_sound(tmp_path / name, np.stack([sound, -sound]), 48_000, layout="stereo")
    alone = write_sound(tmp_path / f"mono-{name}", sound, 48_000)
    heard, expected = read(both), read(alone)
    length = min(len(heard), len(expected)) - 2000
    assert np.corrcoef(heard[2000:length], expected[2000:length])[0, 1] > 0.99
    assert np.std(heard) == pytest.approx(np.std(expected), rel=0.05)


def test_channels_that_cancel_out_in_memory() -> None:
    sound = buzz(2.5)
    heard = np.concatenate(list(sound_blocks(np.stack([sound, -sound], 1), 16_000, 1.0)))
    np.testing.assert_allclose(heard, sound, atol=1e-6)


@pytest.mark.parametrize("layout", ["stereo", "quad", "5.1", "7.1"])
@pytest.mark.parametrize("rate", [SAMPLE_RATE, 44_100])
def test_channels_that_are_alike_are_as_loud_as_one(tmp_path: Path, layout: str, rate: int) -> None:
    sound = buzz(1.0, rate)
    channels = np.stack([sound] * av.AudioLayout(layout).nb_channels)
    several = read(write_sound(tmp_path / "several.flac", channels, rate, layout=layout))
    alone = read(write_sound(tmp_path / "alone.flac", sound, rate))
    np.testing.assert_allclose(several, alone, atol=2e-3)
