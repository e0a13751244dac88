"""What there is to say about a folder of exemplars: gathered file by file, told as sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

FEW, MANY = 5, 100
"""Fewer pictures do not show what a style has in common, more only take time."""
UNEVEN = 2.0
"""Sizes that differ by more than this factor are worth a word."""
GREY = 2
"""Channels that differ by no more than this are grey, of 255: JPEG rounds."""
READ_OUT = 5
"""Reasons that an error message repeats."""


@dataclass
class Remarks:
    """Names of files, by what is worth a word about them."""

    hidden: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    """Neither folders nor pictures by their names."""
    reasons: list[str] = field(default_factory=list)
    """Why pictures were left out, a sentence each."""
    alike: list[str] = field(default_factory=list)
    """Without a face, cut like others."""
    faceless: list[str] = field(default_factory=list)
    """Without a face, taken as they are."""
    crowds: list[str] = field(default_factory=list)
    """Several faces."""
    clear: list[str] = field(default_factory=list)
    """Transparent somewhere."""
    grey: list[str] = field(default_factory=list)
    print_colours: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    """Named in points.json, but no pictures of the folder."""
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Width and height of every picture that is used."""

    def left_out(self, name: str, reason: str) -> None:
        """Notes a picture that cannot be used."""
        self.reasons.append(f"{name} was left out: {reason}")

    def picture(self, path: Path, pixels: np.ndarray, faces: int) -> None:
        """Looks at a picture that is used: its file, what was read from it, (H, W, 3) uint8, and how many faces."""
        self.sizes[path.name] = (pixels.shape[1], pixels.shape[0])
        if faces > 1:
            self.crowds.append(path.name)
        if int(np.ptp(pixels, axis=2).max()) <= GREY:
            self.grey.append(path.name)
        with Image.open(path) as stored:
            if stored.mode == "CMYK":
                self.print_colours.append(path.name)
            if stored.has_transparency_data and int(np.asarray(stored.convert("RGBA"))[..., 3].min()) < 255:
                self.clear.append(path.name)

    def sentences(self) -> list[str]:
        """Everything there is to say, what is missing first."""
        return [*self._not_read(), *self.reasons, *self._said(), *self._sizes(), *self._count()]

    def warnings(self) -> list[str]:
        """Those of the sentences that cast doubt on the set."""
        few = self._count() if len(self.sizes) < FEW else []
        return [*self.reasons, *self._said(doubtful=True), *few]

    def _said(self, doubtful: bool = False) -> list[str]:
        """What is told of pictures that are used; only what is doubtful, if so wanted."""
        listed = (
            (self.clear, False, "transparent in places; white was put behind."),
            (self.grey, False, "without colour; learnt as grey."),
            (
                self.print_colours,
                False,
                "in print colours (CMYK), turned into screen colours; save as RGB if they look off.",
            ),
            (self.crowds, True, "several faces; the largest was taken."),
            (self.alike, False, "no face was found; cut like the other pictures of the same size."),
            (
                self.faceless,
                True,
                "no face was found; taken as framed already, eyes level and the face in the middle of the picture. "
                "Cut the picture that way if it is not, or give the face's place in points.json.",
            ),
            (self.unknown, True, "named in points.json, but no picture of the folder is called so."),
        )
        return [f"{self._who(names)}: {what}" for names, doubt, what in listed if names and (doubt or not doubtful)]

    def summary(self) -> str:
        """The reasons why nothing is left, at most ``READ_OUT`` of them."""
        told = [*self.reasons, *self._not_read()]
        more = f" And {len(told) - READ_OUT} more." if len(told) > READ_OUT else ""
        return " ".join(told[:READ_OUT]) + more

    def _not_read(self) -> list[str]:
        kinds = (
            (self.others, "Not read, for they are no PNG, JPEG, WebP, AVIF, GIF, BMP or TIFF"),
            (self.hidden, "Not read, for they are hidden"),
            (self.folders, "Folders inside are not looked into"),
        )
        return [f"{what}: {', '.join(names)}." for names, what in kinds if names]

    def _who(self, names: Sequence[str]) -> str:
        return f"All {len(names)} pictures" if len(names) == len(self.sizes) > 1 else ", ".join(names)

    def _sizes(self) -> list[str]:
        small, large = (choose(self.sizes, key=self._side) for choose in (min, max))
        if self._side(large) <= UNEVEN * self._side(small):
            return []
        shown = (f"{name} ({self.sizes[name][0]} x {self.sizes[name][1]})" for name in (small, large))
        return [f"The pictures differ in size, from {' to '.join(shown)}; what is small stays soft."]

    def _side(self, name: str) -> int:
        return min(self.sizes[name])

    def _count(self) -> list[str]:
        count = len(self.sizes)
        if count < FEW:
            pictures = "1 picture" if count == 1 else f"{count} pictures"
            return [f"Only {pictures} can be learnt from; about 20 show what a style has in common."]
        if count > MANY:
            return [f"{count} pictures are more than a style needs; about 20 are enough and learnt much faster."]
        return []
