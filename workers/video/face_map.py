"""Which followed face wears which of a session's identities. Pure.

| a face | wears |
|---|---|
| that wore one in the frame before | the same: for as long as it is followed |
| new, near where the wearer of a free identity was last | that one: someone turned away, or the picture was cut |
| new, elsewhere | the first identity that nobody wore yet, from left to right where several faces are new |
| new, when all were worn before | the free one whose wearer was nearest, after half a second under a cover |
| that wore none in the frame before | none, until an identity is free for half a second |
| beyond the number of identities | none |

A wearer may be lost for a frame: whoever stands beside, or comes then, must not wear that face from then on. Where all
followed faces wear the same, there is nothing to mistake, and nobody waits. Nobody is recognised: this takes places, no
biometrics. Who changed seats while out of sight changed identities.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from schemas.media import Place
from workers.video.faces import HOLD_FRAMES, TrackedFace

_NEAR_PM = 250  # of the picture's sides: about the width of a face that fills half of it
_RETURNED, _UNWORN, _LEFT_OVER = range(3)


@dataclass(frozen=True, slots=True)
class FaceMap:
    """Tracks and the slots of their identities, as of one frame."""

    slots: int
    """How many identities there are."""
    contested: bool = True
    """Whether it matters who wears which: they differ, or are fewer than the faces that are followed."""
    worn: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    """Track → slot."""
    last: Mapping[int, Place] = field(default_factory=lambda: MappingProxyType({}))
    """Slot → where its wearer was last."""
    idle: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))
    """Slot that was worn and is not → frames since then."""
    bystanders: frozenset[int] = frozenset()
    """Tracks that wear none, and may be shown."""
    waiting: frozenset[int] = frozenset()
    """Tracks that wear none yet, and may be somebody who did."""

    @property
    def places(self) -> tuple[Place, ...]:
        """What a successor has to know; by slot."""
        return tuple(self.last[slot] for slot in sorted(self.last))

    def after(self, faces: Sequence[TrackedFace], *, width: int, height: int) -> "FaceMap":
        """Return the map of a frame of `width` x `height` px in which these `faces` are followed."""
        at = {face.track: _middle(face, width, height) for face in faces}
        worn = {track: slot for track, slot in self.worn.items() if track in at}
        free = set(range(self.slots)) - set(worn.values())
        idle = {slot: self.idle.get(slot, 0) + 1 for slot in free & self.last.keys()}
        claims = sorted(
            (*self._claim(slot, *at[track]), slot, track) for track in at.keys() - worn.keys() for slot in free
        )
        for tier, _, slot, track in claims:
            held = self.contested and idle.get(slot, HOLD_FRAMES) < HOLD_FRAMES
            sure = track not in self.bystanders and tier != _LEFT_OVER
            if slot in free and track not in worn and (sure or not held):
                worn[track] = slot
                free.remove(slot)
        last = {**self.last, **{slot: Place(slot, *at[track]) for track, slot in worn.items()}}
        idle = {slot: frames for slot, frames in idle.items() if slot in free}
        bare = frozenset(at.keys() - worn.keys())
        waiting = bare - self.bystanders if any(frames < HOLD_FRAMES for frames in idle.values()) else frozenset()
        return replace(
            self,
            worn=MappingProxyType(worn),
            last=MappingProxyType(last),
            idle=MappingProxyType(idle),
            bystanders=bare - waiting,
            waiting=waiting,
        )

    def _claim(self, slot: int, x_pm: int, y_pm: int) -> tuple[int, int]:
        """Return how well a new face at this place suits a free slot; the least suits best."""
        before = self.last.get(slot)
        if before is None:
            return _UNWORN, x_pm
        apart = (before.x_pm - x_pm) ** 2 + (before.y_pm - y_pm) ** 2
        return (_RETURNED if apart <= _NEAR_PM**2 else _LEFT_OVER), apart

    def continued(self, places: Sequence[Place]) -> "FaceMap":
        """Return the map of a successor, who knows only where the wearers were last."""
        last = {place.slot: place for place in places if place.slot < self.slots}
        return FaceMap(self.slots, self.contested, last=MappingProxyType(last))


def _middle(face: TrackedFace, width: int, height: int) -> tuple[int, int]:
    left, top, right, bottom = map(float, face.box)
    return round(500 * (left + right) / width), round(500 * (top + bottom) / height)
