"""Session health: a session that sends rubbish ends, for good.

| rule | condition | decision |
|---|---|---|
| `health.invalid` | 61 of the last 200 received frames are invalid | `Abandon("invalid_frames")`, once |

61 of the first 61 trips too. Received is every frame that has an outcome, that ingress rejected, or that it thinned.
Invalid is a frame that ingress rejected or that would not decode. Frames are video: sound has no frames, and its
accepted messages are not counted one by one, so a share of them is not known. The order is that of the metrics.
"""

from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from schemas.decisions import Abandon, PolicyDecision
from schemas.ids import EntryId
from schemas.policy_config import PolicyConfig

INVALID = "health.invalid"
REASON = "invalid_frames"


class HealthState(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What was received."""

    received: int = 0
    invalid: tuple[int, ...] = ()
    """The newest invalid frames, as many as the rule takes, each by its number among the received."""
    abandoned: bool = False


def on_valid(state: HealthState, frames: int = 1) -> HealthState:
    """Fold frames that were good enough to be worked on."""
    return replace(state, received=state.received + frames)


def on_frame(
    state: HealthState, config: PolicyConfig, entry_id: EntryId, *, invalid: bool
) -> tuple[HealthState, Sequence[PolicyDecision]]:
    """Fold one frame."""
    if not invalid:
        return on_valid(state), ()
    received = state.received + 1
    found = (*state.invalid, received)[-config.invalid_frames :]
    ripe = len(found) >= config.invalid_frames and received - found[0] < config.invalid_of
    if not ripe or state.abandoned:
        return replace(state, received=received, invalid=found), ()
    state = replace(state, received=received, invalid=found, abandoned=True)
    return state, (Abandon(cause=str(entry_id), rule=INVALID, reason=REASON),)
