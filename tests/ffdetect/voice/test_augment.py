from __future__ import annotations

import numpy as np
import pytest

from ffdetect.voice.augment import (
    CODECS,
    VoiceAugmentation,
    add_babble,
    add_noise,
    change_rate,
    change_speed,
    clip,
    limit_band,
    recode,
)
from tests.preprocess.sounds import buzz


@pytest.mark.parametrize("codec", CODECS)
def test_codecs_keep_the_sound_in_place(codec: str) -> None:
    sound = buzz(2.0)
    coded = recode(sound, codec, CODECS[codec][3][-1])
    assert len(coded) == len(sound)
    if codec != "amr":  # speech coders keep the sound, not the wave
        assert 0.9 < np.corrcoef(coded, sound)[0, 1] < 1 - 1e-7
    levels = [np.square(x.reshape(-1, 320)).mean(1) for x in (coded, sound)]
    assert 0.9 < np.corrcoef(*levels)[0, 1] < 1 - 1e-7
    assert coded.std() == pytest.approx(sound.std(), rel=0.2)


def test_a_draw_is_the_same_for_both_of_a_pair() -> None:
    sound = buzz(1.0)
    for seed in range(20):
        disturb = VoiceAugmentation().draw(np.random.default_rng(seed), [buzz(0.7, seed=5)])
        first, second = disturb(sound), disturb(sound)
        assert first.dtype == np.float32 and np.isfinite(first).all()
        assert np.array_equal(first, second)
        assert 0.85 * len(sound) < len(first) < 1.15 * len(sound)


def test_disturbances_do_what_they_say() -> None:
    sound = buzz(1.0)
    noise = add_noise(sound, 20, 1.0, 0) - sound
    assert 10 * np.log10((sound**2).mean() / (noise**2).mean()) == pytest.approx(20, abs=0.1)
    babble = add_babble(sound, [buzz(0.7, seed=1)], 10, 0) - sound
    assert 10 * np.log10((sound**2).mean() / (babble**2).mean()) == pytest.approx(10, abs=0.1)
    low = np.abs(np.fft.rfft(limit_band(sound, 50, 4000)))
    assert low[5500:].max() < 1e-2 * low[:4000].max()
    narrow = np.abs(np.fft.rfft(change_rate(sound, 8_000)))
    assert narrow[4500:].max() < 1e-2 * narrow[:3800].max()
    assert np.abs(clip(sound, 0.5)).max() == pytest.approx(np.abs(sound).max() / 2)
    assert len(change_speed(sound, 80)) == 20_000
