"""The error tree: each branch tells the caller what to do."""


class MirageError(Exception):
    """Base of every error that Mirage raises on purpose. `code` is the stable, machine-readable name."""

    code = "internal"


# --- drop: this one input is bad; say so to its sender and go on with the next -------------------------------------


class InputRejected(MirageError):
    """A message, frame or chunk that breaks the rules. Nothing of it was used; the session lives on."""

    code = "input_rejected"

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        """Say what was wrong and what is accepted, in `detail`; `code` narrows the kind."""
        super().__init__(detail)
        if code is not None:
            self.code = code


class EnrolmentRefused(InputRejected):
    """A portrait or voice reference that cannot become an identity template."""

    code = "enrolment_refused"


class CodecError(InputRejected):
    """Bytes that are not a message of this protocol, or one of a version this build does not speak."""

    code = "codec"


# --- slow down: nothing is wrong with the input, there is too much of it -------------------------------------------


class Throttled(MirageError):
    """Too much, too fast. `retry_after_ms` says when to try again."""

    code = "rate_limited"

    def __init__(self, detail: str, *, retry_after_ms: int) -> None:
        """Name the limit in `detail`."""
        super().__init__(detail)
        self.retry_after_ms = retry_after_ms


# --- stop: what you held is no longer yours ------------------------------------------------------------------------


class Fenced(MirageError):
    """A newer owner has taken over. Throw the result away, write nothing more, let go."""

    code = "fenced"


# --- give up on this session or request: repeating it will not help ------------------------------------------------


class NotFound(MirageError):
    """No such session or identity (any more)."""

    code = "not_found"


class Refused(MirageError):
    """Authentication, scope, consent or policy says no."""

    code = "refused"


class Conflict(MirageError):
    """Something already stands where this would go, and it differs."""

    code = "conflict"


# --- retry later: the fault is outside -----------------------------------------------------------------------------


class BusUnavailable(MirageError):
    """The stream server did not answer. Nothing is known of what was in flight; retry with the same explicit ID."""

    code = "bus_unavailable"


class DownloadFailed(MirageError):
    """A model file did not come whole. What came is kept, and the next pull goes on from there."""

    code = "download_failed"


# --- fix the installation: no retry will ever succeed --------------------------------------------------------------


class Misconfigured(MirageError):
    """A setting, file or server is not what Mirage needs. The message names it and what is accepted."""

    code = "misconfigured"


class ModelMissing(Misconfigured):
    """A model file is not in the store. The message says how to get it."""

    code = "model_missing"


class ModelRefused(Misconfigured):
    """A model file is not what its contract asks for. The message says what was expected and what was found."""

    code = "model_refused"
