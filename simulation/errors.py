"""The errors that Lull raises on purpose: each is one sentence that names the place and the remedy."""


class LullError(ValueError):
    """A problem that the caller can mend; its message is shown to `lull` users as it stands."""


class InvalidPlan(LullError):
    """A plan, or a part of one, that cannot be used; the message names the field."""


class InvalidHistory(LullError):
    """A request history that cannot be read; the message names the file and the row."""


class InvalidScenario(LullError):
    """A scenario that cannot be played against the plan; the message names the field."""


class InvalidWorkload(LullError):
    """Arrays or settings that no queue can be computed from; the message names the argument."""


class UnknownZone(LullError):
    """A time zone that the IANA database does not know."""


class InvalidSample(LullError):
    """Results or settings that no interval or choice can be computed from; the message names the argument."""
