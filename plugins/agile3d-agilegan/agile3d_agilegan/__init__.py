"""AgileGAN's attribute-aware generator. There is no stylizer yet, so no hook."""

from __future__ import annotations

__version__ = "0.2.0"
