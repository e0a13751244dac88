"""Counts -> about how long, how much memory and how much disk a new style takes. Imports no torch.

Every cost below was measured once, stage by stage, and is scaled by the counts alone: another processor, an
accelerator or other work on the machine changes the time, so it is said with "about".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agile3d_cli.style.config import Preset

MACHINE = "two cores of a server processor, one thread, no accelerator, base generator mini"
"""Where the costs were measured."""
MEASURED_SIZE = 192
"""Size of the pictures they were measured with, pixels."""
START = 2.0
"""Seconds until the base generator is read."""
EXEMPLAR = 0.35
"""Seconds to read, align and check an exemplar."""
FACE = 1.35
"""Seconds to draw a face of the base generator and measure it twice."""
PHOTO = 0.45
"""Seconds to align a photo and measure it twice."""
SURFACE = 0.75
"""Seconds to trace a pair's pixels to the head's surface."""
STEP = 0.24
"""Seconds of a step of the transfer."""
FINISH = 110.0
"""Seconds for what is tried in the end, scores, preview and files."""
PROGRAM = 1.15e9
"""Bytes of memory of the program with generator and stylizer."""
TRACED, HEAD = 50, 1_950_000
"""Bytes of a traced pixel, places and shares of the samples that are kept, in memory and on disk, and of memory for the
features that a head's planes are made from, in half precision."""
STORED_PIXEL = 8
"""Bytes of a stored pixel: three colours and coverage in half precision."""
STORED_ROW = 10_000
"""Other bytes of a stored row: landmarks, features, camera, latent."""
STATE = 15_000_000
"""Bytes of the transfer's saved state."""
RESULT = 4_000_000
"""Bytes of bundle, preview and report."""


@dataclass(frozen=True)
class Plan:
    """What the run would take."""

    pairs: int
    """Faces of the base generator that are stylized."""
    photos: int
    """Photos that are stylized."""
    size: int
    """Their edge, pixels."""
    steps: int
    """Steps of the transfer."""
    seconds: Mapping[str, float | None]
    """About how long each stage takes; None where the stylizer does not say."""
    memory_bytes: int
    """About how much memory it takes at most."""
    disk_bytes: int
    """About how much room it takes below --output."""
    machine: str = MACHINE

    @property
    def total(self) -> float:
        """Seconds of all stages that are known."""
        return sum(value for value in self.seconds.values() if value is not None)


def plan_style(
    exemplars: int,
    preset: Preset,
    photos: int = 0,
    stylizer: tuple[float, float] | None = None,
    kept: int = 0,
    imported: bool = False,
) -> Plan:
    """The plan for so many exemplars and photos.

    Args:
        exemplars: pictures of the style.
        preset: how much work goes into it.
        photos: real photos stylized beside the generator's faces.
        stylizer: ``StylizerDescription.seconds``.
        kept: exemplars that stay in memory, bytes.
        imported: whether the generator is an imported one, of any size: with these no time was measured.
    """
    share = (preset.size / MEASURED_SIZE) ** 2
    fit, picture = stylizer if stylizer is not None else (None, None)
    drawing = None
    if picture is not None and not imported:
        drawing = preset.pairs * (FACE * share + picture) + photos * (PHOTO + picture)
    seconds = {
        "exemplars": START + EXEMPLAR * exemplars,
        "stylizer": fit,
        "augment": drawing,
        "transfer": None if imported else share * (SURFACE * preset.pairs + STEP * preset.steps),
        "bundle": FINISH,
    }
    pixels = preset.size**2
    row, traced = STORED_PIXEL * pixels + STORED_ROW, 0 if imported else preset.pairs * TRACED * pixels
    return Plan(
        pairs=preset.pairs,
        photos=photos,
        size=preset.size,
        steps=preset.steps,
        seconds={name: None if value is None else round(value, 1) for name, value in seconds.items()},
        memory_bytes=round(PROGRAM + kept + preset.pairs * (row + HEAD) + traced),
        disk_bytes=round((preset.pairs + 2 * photos) * row + traced + STATE + RESULT),
    )
