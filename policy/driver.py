"""The one driver of live and replay: recorded bytes in, decisions out. No clock, no I/O."""

from collections.abc import Sequence

from msgspec.structs import replace

from policy.reducer import Decided, PolicyState, pass_over, step
from schemas.errors import CodecError
from schemas.events import SessionStarted, metric_events
from schemas.ids import EntryId
from schemas.policy_config import PolicyConfig


class Driver:
    """Folds a session's metrics stream, entry by entry, from a state on."""

    def __init__(self, state: PolicyState | None = None, *, config: PolicyConfig | None = None) -> None:
        """Go on from `state`; a `config` stands in for the recorded one, whatever the session says (what-if)."""
        self._state = state or PolicyState()
        self._config = config
        if config is not None:
            self._state = replace(self._state, config=config, open_loop=True)
        self.error: CodecError | None = None
        """Why the last entry was passed over; None when it was folded."""

    @property
    def state(self) -> PolicyState:
        """What is remembered after the last entry."""
        return self._state

    def fold(self, entry_id: EntryId, data: bytes) -> Sequence[Decided]:
        """Fold the metric event in `data`; returns what it decides, in order.

        An entry that cannot be read is passed over and counted in `state.unreadable`, live and in replay alike.
        Raises `Misconfigured` on a session of other rules.
        """
        self.error = None
        try:
            event = metric_events.decode(data)
            if self._config is not None and isinstance(event, SessionStarted):
                event = replace(event, config=self._config)
            self._state, decisions = step(self._state, entry_id, event)
        except CodecError as error:
            self.error = error
            self._state = pass_over(self._state, entry_id)
            return ()
        return decisions
