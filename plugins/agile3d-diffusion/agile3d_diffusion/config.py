"""Settings of the stylizer. Imports nothing heavy, so that listing plugins stays quick."""

from __future__ import annotations

from dataclasses import dataclass

from agile3d_cli.errors import ConfigError

TINY = "tiny"
"""Name of the small base that ``train_base`` makes."""
MEMORY = ("full", "sliced", "offload")
CONTROLS = ("edges", "picture")


@dataclass(frozen=True)
class DiffusionConfig:
    """How faces are redrawn. The second and third group are for large bases only, and change nothing with "tiny"."""

    base: str = TINY
    """What draws: "tiny", the folder of a pipeline that diffusers can load (SD 1.5, SDXL and their kin), or the name
    of one on the Hugging Face hub, such as "owner/model", which is fetched unless ``--offline`` is given."""
    strength: float = 0.8
    """How noisy the face is made before it is redrawn, above 0, up to 1: little keeps the photo, much forgets it."""
    steps: int = 8
    """Noise levels on the way back to a clean picture."""
    structure: float = 0.8
    """How much of the photo's own structure goes into the drawing, 0 to 1. With a large base: the weight of
    ``controlnet``."""
    shape: float = 1.0
    """How far a face takes on the style's proportions before it is redrawn, 0 to 1; "tiny" only."""
    features: float = 1.0
    """How much of an exemplar's features is laid over the face before it is redrawn, 0 to 1; "tiny" only."""
    color: float = 1.0
    """How far the face's colours are moved towards the exemplars' before it is redrawn, 0 to 1; "tiny" only."""
    detail: float = 1.0
    """How much of the photo's detail finer than the base's pixels is kept where the drawing follows the photo, 0 to
    1."""
    fit_steps: int = 200
    """Longest training on the exemplars; it ends earlier once exemplars that are held out get no nearer. 0: none. Large
    bases, which do not end earlier, want 400 or more."""
    batch: int = 8
    """Exemplars a step."""
    rate: float = 3e-3
    """Step size of Adam; large bases want 1e-4 or so."""
    rank: int = 16
    """Rank of the LoRA."""
    prior: float = 0.3
    """Weight of realistic faces in the training, which keep people different; 0 or more. "tiny" is shown their
    collages."""
    faces: int = 32
    """How many realistic faces are looked at."""

    prompt: str = "a portrait in the style of <style>"
    """What the exemplars are, in words that the base knows."""
    prior_prompt: str = "a portrait photo of a person"
    """What the realistic faces are."""
    guidance: float = 5.0
    """How strictly the prompt is followed: 1 is not at all more than the base does by itself."""
    size: int = 512
    """Width and height at which the large base draws, pixels: a multiple of 8, best what it was trained at."""

    lora: str = ""
    """A LoRA file (.safetensors) to start from, as kohya's programs or peft write them."""
    controlnet: str = ""
    """Folder of a ControlNet for the base, which keeps pose and features in place."""
    control: str = "edges"
    """What the ControlNet sees: "edges" (Canny) or "picture" (for tile models)."""
    ip_adapter: str = ""
    """An IP-Adapter file (.safetensors) for the base, with the folder ``image_encoder`` beside it: the exemplars are
    shown to the base as pictures, too."""
    ip_weight: float = 0.6
    """How much the IP-Adapter says, 0 to 1."""
    memory: str = "full"
    """"full" (quickest), "sliced" (attention and pictures in slices) or "offload" (parts wait in main memory; needs an
    accelerator)."""

    def __post_init__(self) -> None:
        for name, low, high in (
            ("strength", 0.01, 1),
            ("steps", 1, 1000),
            ("structure", 0, 1),
            ("shape", 0, 1),
            ("features", 0, 1),
            ("color", 0, 1),
            ("detail", 0, 1),
            ("fit_steps", 0, 1_000_000),
            ("batch", 1, 1024),
            ("rate", 1e-7, 1),
            ("rank", 1, 1024),
            ("prior", 0, 100),
            ("faces", 1, 100_000),
            ("guidance", 0, 100),
            ("size", 8, 4096),
            ("ip_weight", 0, 1),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"DiffusionConfig.{name} is {value}; it lies between {low} and {high}.")
        if self.size % 8:
            raise ConfigError(f"DiffusionConfig.size is {self.size}; give a multiple of 8.")
        for name, choices in (("memory", MEMORY), ("control", CONTROLS)):
            if getattr(self, name) not in choices:
                raise ConfigError(
                    f"DiffusionConfig.{name} is {getattr(self, name)!r}; choose one of {', '.join(choices)}."
                )
        if not self.base:
            raise ConfigError(f'DiffusionConfig.base is empty; give "{TINY}", a folder or a name on the hub.')
        for name in ("lora", "controlnet", "ip_adapter"):
            if self.base == TINY and getattr(self, name):
                raise ConfigError(
                    f'DiffusionConfig.{name} needs a large base; "{TINY}" takes none. Set base to a folder or a name.'
                )
