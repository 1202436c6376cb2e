"""The policy's checkpoint: its state, which names the last metric event folded into it."""

import msgspec

from policy.reducer import PolicyState
from schemas.errors import CodecError
from schemas.policy_config import RULES_VERSION

STATE, VERSION = b"state", b"rules_version"

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(PolicyState)


def pack(state: PolicyState) -> dict[bytes, bytes]:
    """Return the hash fields of a snapshot."""
    return {STATE: _encoder.encode(state), VERSION: b"%d" % RULES_VERSION}


def unpack(fields: dict[bytes, bytes]) -> PolicyState | None:
    """Return the state; None when there is none, or when it was written under other rules (fold from the start).

    Raises `CodecError` when it is damaged.
    """
    if STATE not in fields or fields.get(VERSION) != b"%d" % RULES_VERSION:
        return None
    try:
        return _decoder.decode(fields[STATE])
    except (msgspec.DecodeError, ValueError) as error:
        raise CodecError(f"policy snapshot is damaged: {error}") from None
