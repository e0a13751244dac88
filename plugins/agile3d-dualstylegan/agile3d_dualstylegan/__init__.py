"""DualStyleGAN's networks and the reading of its published styles. There is no stylizer yet, so no hook."""

from __future__ import annotations

__version__ = "0.1.0"
