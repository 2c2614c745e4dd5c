"""What a client is made for, checked before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from reelkind.core import specs
from reelkind.core.specs import Models
from reelkind.video.decoding import Decoder

from .cache import FeatureCache
from .transport.address import Tls
from .transport.errors import InvalidOption
from .transport.retry import MAX_SECONDS, Retry

TIMEOUT_S = 60.0  # one call with its retries; on a busy laptop a transformer takes ten seconds, behind others more


@dataclass(frozen=True)
class ClientOptions:
    """What a client is made for; see ``Client``.

    Raises:
        InvalidOption: if one of these is of no use.
    """

    member: str | None
    tta: str
    timeout_s: float
    retry_s: float | Retry
    decoder: Decoder | None
    headers: Mapping[str, str] | None
    tls: bool | Tls
    abstain: bool | float
    num_frames: int | None
    shared_memory: bool
    cache: FeatureCache | None

    def __post_init__(self) -> None:
        if not 0 < self.timeout_s <= MAX_SECONDS:
            raise InvalidOption(f"timeout_s must be above 0 and at most {MAX_SECONDS} (a day), got {self.timeout_s}")
        Retry.of(self.retry_s)
        if not (isinstance(self.abstain, bool) or (isinstance(self.abstain, int | float) and 0 <= self.abstain <= 1)):
            raise InvalidOption(f"abstain must be True, False or a confidence from 0 to 1, got {self.abstain!r}")
        if self.num_frames is not None and not (
            isinstance(self.num_frames, int) and 1 <= self.num_frames <= specs.MAX_FRAMES
        ):
            raise InvalidOption(f"num_frames must be a number from 1 to {specs.MAX_FRAMES}, got {self.num_frames!r}")
        self.choose(None, None)  # what no model is called is said at once

    def choose(self, member: str | None, tta: str | None) -> Models:
        """The models for what a call wants, else for what the client was made for."""
        group, wanted = self.member if member is None else member, self.tta if tta is None else tta
        if group is not None and not (group and group.isprintable()):
            raise InvalidOption(f"no member is called {group!r}")
        if wanted not in specs.TTA:
            raise InvalidOption(f"there is no test-time augmentation {wanted!r}, only {', '.join(specs.TTA)}")
        return specs.models_of(group, wanted)
