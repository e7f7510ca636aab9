"""How long reloads, upgrades and what clients notice of them may take, in seconds."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Bounds:
    gap: float
    """What clients may wait beyond what they wait without events."""
    event: float
    """A reload, an exchange of a certificate, or an upgrade, under load."""
    live_reload: float
    """A reload with many open connections, from the signal to the line in the log."""

    @classmethod
    def exact(cls):
        """What is promised. An event under load takes what the load leaves of the processor, so it has no such bound."""
        return cls(gap=0.05, event=math.inf, live_reload=0.1)

    @classmethod
    def coarse(cls):
        """For busy machines and debug builds: what stands still fails."""
        return cls(gap=1.0, event=10.0, live_reload=1.0)
