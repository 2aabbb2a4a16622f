from dataclasses import fields, replace

import pytest

from lipsync_cli.sync.reasons import Evidence, Thresholds, reasons_to_doubt

GOOD = Evidence(
    silent_share=0.1,
    speech_share=0.8,
    music_share=0.0,
    mouth_motion=0.1,
    profile_share=0.0,
    usable_s=10.0,
    score=0.3,
    confidence=0.99,
    rival_share=0.3,
    agreement=1.0,
    edge_ms=500.0,
    interval_ms=10.0,
)
BAD = {
    "silence": {"silent_share": 0.99},
    "no-speech": {"speech_share": 0.01},
    "music": {"music_share": 0.9},
    "still-mouth": {"mouth_motion": 0.001},
    "profile": {"profile_share": 0.9},
    "too-short": {"usable_s": 0.5},
    "no-match": {"confidence": 0.3},
    "flat-curve": {"score": 0.001},
    "several-peaks": {"rival_share": 0.97},
    "edge": {"edge_ms": 0.0},
    "wide-interval": {"interval_ms": 300.0},
}


def test_good_evidence_and_none_at_all_give_no_reasons():
    assert reasons_to_doubt(GOOD, Thresholds()) == ()
    assert reasons_to_doubt(Evidence(), Thresholds()) == ()


@pytest.mark.parametrize("code", BAD)
def test_each_fault_gives_its_own_reason_alone(code):
    (reason,) = reasons_to_doubt(replace(GOOD, **BAD[code]), Thresholds())
    assert reason.code == code
    assert len(reason.words) > 10


def test_disagreeing_replicates_are_several_peaks():
    (reason,) = reasons_to_doubt(replace(GOOD, agreement=0.5), Thresholds())
    assert reason.code == "several-peaks"


def test_faults_add_up_and_every_threshold_is_used():
    worst = Evidence(**{name: value for fault in BAD.values() for name, value in fault.items()})
    assert [reason.code for reason in reasons_to_doubt(worst, Thresholds())] == list(BAD)
    lenient = {
        "silent_share": 2,
        "music_share": 2,
        "profile_share": 2,
        "rival_share": 2,
        "interval_ms": 1e9,
    }
    names = [field.name for field in fields(Thresholds)]
    assert {field.name for field in fields(Evidence)} == set(names)
    assert reasons_to_doubt(worst, Thresholds(**{name: lenient.get(name, -1) for name in names})) == ()
