"""Cues: what the fake Globus is told to do wrong, as data, each so many times."""

from dataclasses import dataclass, field

#: What goes wrong with a request. ``on`` names the request; "" is any but the one for a token.
OF_REQUESTS = frozenset(
    {
        "lost_reply",  # it is carried out, and the connection is reset
        "lost_request",  # the connection is reset before it is carried out
        "unauthorized",  # 401, as if the token had expired
        "forbidden",  # 403
        "throttled",  # 429 with Retry-After
        "unavailable",  # 503 with Retry-After
        "endpoint_error",  # 502, with a code that the SDK does not repeat
        "nonsense",  # 200 and no JSON that anybody expects
    }
)
#: What goes wrong with a task; ``match`` is a part of a path, "" fits all.
OF_TASKS = frozenset(
    {
        "faults",  # ``times`` faults with ``code``, then it goes on
        "paused",  # by an administrator, until released
        "inactive",  # no credentials, until released
        "silent",  # nothing happens, until released
        "full",  # faults NO_SPACE_LEFT, until released
        "item",  # items that match fault with ``code`` for ever
        "fails",  # FAILED with ``code``, once all items that do not match have arrived
        "corrupt",  # a matching file arrives with another byte in it
        "forgotten",  # its history is deleted when it has ended
        "gone",  # it is not known any more, once it has ended
    }
)


@dataclass
class Cue:
    """One thing to do wrong."""

    what: str
    on: str = ""
    times: int = 1
    code: str = ""
    match: str = ""
    retry_after: int = 1

    def __post_init__(self) -> None:
        if self.what not in OF_REQUESTS | OF_TASKS:
            raise ValueError(f"there is no cue {self.what!r}")


@dataclass
class Cues:
    """Those that are still to be acted on."""

    waiting: list[Cue] = field(default_factory=list)

    def give(self, *cues: Cue) -> None:
        self.waiting.extend(cues)

    def for_request(self, name: str) -> Cue | None:
        """The first cue that fits, which is used up a little."""
        for cue in self.waiting:
            if cue.what in OF_REQUESTS and (cue.on == name or (not cue.on and name != "token")):
                cue.times -= 1
                if cue.times <= 0:
                    self.waiting.remove(cue)
                return cue
        return None

    def for_task(self) -> list[Cue]:
        """The cues that the next task is to act on."""
        taken = [cue for cue in self.waiting if cue.what in OF_TASKS]
        self.waiting = [cue for cue in self.waiting if cue not in taken]
        return taken
