"""The parts of a head that pictures tell apart."""

from __future__ import annotations

PARTS = ("skin", "eyes", "brows", "lashes", "teeth", "hair", "glasses", "headwear", "iris", "painted_hair", "cloth")
"""What a pixel can show: the pieces, and what is painted on eyes and skin (iris; beard and cropped hair; clothes)."""
