from fractions import Fraction

import pytest

from lipsync_cli.sync.estimate import estimate_lead
from lipsync_cli.sync.speaker import choose_speaker

RATE = Fraction(100)


@pytest.fixture
def faces(plant):
    """Face 7 speaks, 400 ms out of sync; face 3 is a listener; both are measured against the voice of 7."""
    vocal, audio = plant(0, lead_ms=400, noise=0.7)
    return {
        3: estimate_lead(plant(1)[0], audio, audio_rate=RATE),
        7: estimate_lead(vocal, audio, audio_rate=RATE),
    }


def test_the_speaker_wins_far_out_of_sync(faces):
    choice = choose_speaker(faces)
    assert choice.track_id == 7
    assert choice.clear
    assert choice.margin == pytest.approx(faces[7].score - faces[3].score)
    assert choice == choose_speaker(dict(reversed(faces.items())))


def test_a_lone_speaker_is_chosen_and_a_lone_listener_is_not(faces):
    assert choose_speaker({7: faces[7]}).track_id == 7
    assert choose_speaker({3: faces[3]}).track_id is None
    assert choose_speaker({}).track_id is None


def test_two_faces_that_match_alike_are_not_a_clear_choice(faces, plant):
    vocal, audio = plant(0, lead_ms=400, noise=0.7)
    mirror = estimate_lead(vocal, audio, audio_rate=RATE)
    choice = choose_speaker({7: faces[7], 8: mirror})
    assert choice.track_id in (7, 8)
    assert not choice.clear
    assert choice.margin == 0


def test_the_speaker_is_found_among_four_in_most_clips(plant):
    right = 0
    for seed in range(20):
        vocal, audio = plant(seed, frames=125, lead_ms=-200, noise=1.0)
        faces = {k: estimate_lead(plant(100 * seed + k)[0][:125], audio, audio_rate=RATE) for k in (1, 2, 3)}
        right += choose_speaker({0: estimate_lead(vocal, audio, audio_rate=RATE), **faces}).track_id == 0
    print(f"speaker among four, 5 s: {right}/20")
    assert right >= 18
