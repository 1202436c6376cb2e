"""What each rule of the policy means, in plain words."""

from schemas.decisions import (
    Decision,
    DropVideoUntil,
    SetChunk,
    SetVideo,
    SoftSkip,
    VoiceFailed,
    VoiceRestored,
)


def family_of(decision: Decision) -> str:
    """Return what a decision is about."""
    match decision:
        case SetChunk():
            return "sound chunk"
        case SetVideo():
            return "video rung"
        case DropVideoUntil():
            return "drop floor"
        case SoftSkip():
            return "soft skip"
        case VoiceFailed() | VoiceRestored():
            return "voice"
        case _:
            return "fact"


_FAMILIES = {
    "sound chunk": "Sound is converted in longer chunks when that takes too much of its time, in shorter ones when"
    " there is plenty.",
    "video rung": "When frames take too long, the picture gives up quality, then frame rate, then size; and gets them"
    " back in reverse.",
    "drop floor": "Video was too late behind the sound: frames that nobody has begun are dropped up to here.",
    "soft skip": "Video has been a little late for long: single frames are left out until it has caught up.",
    "voice": "Converting the voice takes longer than it lasts: it is silent, and tried again after a pause.",
    "fact": "A fact about the session, for operators.",
}
MEANINGS = {
    "audio.grow": "Converting takes too much of each chunk's length for long: longer ones cost less for as much sound.",
    "audio.shrink": "There is plenty of time: shorter chunks bring the delay down.",
    "audio.fail": "Even the longest chunks take too long to convert: the voice is silent, and tried again later.",
    "audio.restore": "The pause is over: the voice is converted again, on trial.",
    "audio.latency": "The publisher hears and sees itself later than the target. A fact; nothing changes by it.",
    "sync.drop": "Video is further behind the sound than can be hidden: frames that nobody has begun are dropped.",
    "sync.skip": "Video has been a little late for long: single frames are left out to catch up.",
    "sync.caught_up": "Video has caught up: every frame is worked on again.",
    "sync.no_gain": "Leaving frames out did not help: it is given up for a while.",
    "sync.sleep": "No sound or no video came for a while: lateness, and what was done about it, are forgotten.",
    "video.slow": "Frames take too much of their time for long: one step down in quality, frame rate or size.",
    "video.drops": "Too many frames went stale or were overtaken by newer ones: one step down.",
    "video.late": "Video stays too late behind the sound: one step down.",
    "video.up": "Frames have been fast and in time for long, and the better rung looks affordable: one step up.",
    "video.probe": "The better rung looked too expensive once; after a long calm it is tried anyway.",
    "video.overload": "Even the lowest rung takes too long: this worker has too much to do. A fact for operators.",
    "health.invalid": "Too many frames could not be read as pictures: the session ends for good.",
}
"""Rule → what it means."""


def meaning_of(rule: str, family: str) -> str:
    """Return what a rule means; what its family is about where the rule is one that this build does not know."""
    return MEANINGS.get(rule, _FAMILIES[family])
