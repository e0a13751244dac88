"""Settings of the face stages."""

from __future__ import annotations

from dataclasses import dataclass

from agile3d_cli.errors import ConfigError

TEMPLATES = {"standard": "face_template", "mini": "mini_template"}
"""Average faces by name, with the file each lies in."""


@dataclass(frozen=True)
class FaceConfig:
    """How faces are found and cropped."""

    size: int = 512
    """Side of the crops, pixels."""
    wide: float = 0.62
    """Focal length of the wide picture over that of the crop; smaller shows more around the head."""
    estimator: str = "mediapipe"
    """Who finds the landmarks: a name in ``face.estimators``."""
    template: str = "standard"
    """Whose average face the crop is fitted to: "standard" (EG3D's framing), or "mini" (the heads that generator knows,
    which are a little smaller)."""
    detection_threshold: float = 0.4
    """Least detector score of a face, 0 to 1; the landmark model has the last word."""
    presence_threshold: float = 0.85
    """Least certainty of the landmark model that it looks at a face, 0 to 1. Photos of people reach 0.99 and cartoons
    0.89; a cat reached 0.76."""
    overlap: float = 0.3
    """Boxes that overlap by more than this (intersection over union) are one face."""
    mesh_passes: int = 2
    """Times the landmarks are found; each pass crops anew around the last landmarks."""
    threads: int = 2
    """Threads of each face network; fixed, so that results do not depend on the machine."""
    matte: bool = True
    """Whether the person mask is computed; without it the whole picture counts as the person."""

    def __post_init__(self) -> None:
        for name in ("detection_threshold", "presence_threshold", "overlap"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigError(f"FaceConfig.{name} is {getattr(self, name)}; it lies between 0 and 1.")
        if self.template not in TEMPLATES:
            raise ConfigError(f"FaceConfig.template is {self.template!r}; choose one of {', '.join(TEMPLATES)}.")
        if not 0.3 <= self.wide <= 1:
            raise ConfigError(f"FaceConfig.wide is {self.wide}; it lies between 0.3 and 1.")
        if self.size < 32 or self.mesh_passes < 1 or self.threads < 1:
            raise ConfigError("FaceConfig needs size >= 32, mesh_passes >= 1 and threads >= 1.")
