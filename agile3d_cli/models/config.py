"""Sizes and conventions of the tri-plane generator family, as plain data (no torch).

One family serves the embedded ``mini`` and imported EG3D-type weights; everything that ``mini`` adds (mean planes,
canonical deformation, focused planes) is off by default.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
from itertools import pairwise
from typing import Any

from agile3d_cli.errors import ConfigError

PLANE_AXES = ("xy_xz_zx", "xy_xz_zy")
"""The published EG3D weights use (x, y), (x, z), (z, x), so no plane holds (y, z); the corrected set is xy_xz_zy."""


@dataclass(frozen=True)
class FocusConfig:
    """A fixed smooth map of space that gives the face more texels: p -> asinh(k (p - c)) per axis, scaled to [-1, 1].

    With ``strength`` 0 it is the plain scaling by the box.
    """

    strength: float = 0.0
    """k in units of one over the box half-width; 0 is off, 3 gives 1.65 times the texels at the centre."""
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """Where texels are densest, world units."""


@dataclass(frozen=True)
class DeformationConfig:
    """Canonical-space planes: a field, linear in the leading coordinates of z, from the mean head to the subject."""

    shapes: int = 0
    """Leading z coordinates that act linearly; 0 together with no expressions switches the deformation off."""
    expressions: tuple[tuple[float, float], ...] = ()
    """(strength, bias) of the coordinates after them: weight = strength * sigmoid(1.6 z + bias)."""
    grid: int = 24
    """Nodes per axis of the stored fields."""
    inverse_grid: int = 40
    """Nodes per axis of the inverted field of one subject."""
    rounds: int = 8
    """Fixed-point rounds of the inversion."""

    @property
    def components(self) -> int:
        """Number of stored fields."""
        return self.shapes + len(self.expressions)


@dataclass(frozen=True)
class ChoicesConfig:
    """Coordinates of z that choose. What they choose, as shares in [0, 1], goes into the mapping beside z, so that it
    need not learn an argmax, and unchanged into the last coordinates of every style.

    Off without ``groups`` and ``switches``.
    """

    groups: tuple[tuple[int, tuple[float, ...]], ...] = ()
    """(first coordinate, bias of each option): softmax of sharpness * (z + bias) over the options."""
    switches: tuple[tuple[int, float], ...] = ()
    """(coordinate, threshold): sigmoid of sharpness * (z - threshold)."""
    crossed: tuple[tuple[int, int], ...] = ()
    """(group, switch): the products of the group's shares with the switch are shares too."""
    sharpness: float = 8.0
    gain: float = 5.0
    """What the shares are multiplied by, so that a few of them are heard among many coordinates of z."""

    @property
    def features(self) -> int:
        """Number of shares: groups, then switches, then products."""
        options = [len(bias) for _, bias in self.groups]
        return sum(options) + len(self.switches) + sum(options[group] for group, _ in self.crossed)


@dataclass(frozen=True)
class TraitsConfig:
    """What z stands for: colours and amounts, curved functions of several coordinates. A small network of its own,
    which can be taught from latents without a picture, gives them to every style, before the shares of the choices.
    """

    count: int = 0
    """Number of traits; 0 is off."""
    hidden: int = 256
    """Width of the network's two hidden layers."""


@dataclass(frozen=True)
class BankConfig:
    """Learned sets of planes that are added in the proportion of some shares: each hair style has its own."""

    shares: tuple[int, ...] = ()
    """Numbers of the shares (see ``ChoicesConfig``) that have planes; none is off."""
    size: int = 64
    """Their edge, texels; they are enlarged to the planes' size."""


@dataclass(frozen=True)
class SuperresolutionConfig:
    """Two convolution blocks that turn a rendered feature picture into a larger image; off without ``sizes``."""

    rendered: int = 64
    """Pixels of the picture that is rendered."""
    entry: int = 128
    """Pixels to which it is resampled first."""
    sizes: tuple[int, ...] = ()
    """Pixels after each block: as many as before it, or twice as many."""
    channels: tuple[int, ...] = ()
    """Feature channels of each block."""
    clamp: float = 256.0
    """Activations are held in [-clamp, clamp], as networks trained in half precision expect; 0 is off."""

    def __post_init__(self) -> None:
        if len(self.sizes) != len(self.channels):
            raise ConfigError(f"{len(self.sizes)} super-resolution blocks need as many channel counts.")
        for before, size in pairwise((self.entry, *self.sizes)):
            if size not in (before, 2 * before):
                raise ConfigError(f"A super-resolution block keeps or doubles its {before} pixels, not {size}.")


@dataclass(frozen=True)
class PublishedConfig:
    """How imported networks were trained to be asked and shown; see ``published.py``."""

    label_scale: float = 1.0
    """What the mapping's camera label is multiplied by; 0 where the network was trained without it."""
    white_back: bool = False
    """Whether what rays do not meet is white; else it is black, which the features call -1."""
    folded: bool = False
    """Whether styles scale the weights and not the features: equal up to rounding, of which this is the published one.
    With recorded styles, a recorded picture's largest error is 1.6e-4 instead of 2.5e-4, at the steepest surface."""


@dataclass(frozen=True)
class GeneratorConfig:
    """Every size of a generator. The defaults are EG3D FFHQ 512-128 without its super-resolution."""

    z_dim: int = 512
    w_dim: int = 512
    label_dim: int = 25
    """25 conditions the mapping on the camera label, 0 does not."""
    normalize_z: bool = True
    """Whether z is brought to unit second moment first; off where its length carries meaning."""
    mapping_layers: int = 2
    mapping_lr: float = 0.01
    """Learning-rate multiplier folded into the mapping weights."""
    plane_size: int = 256
    plane_channels: int = 32
    plane_axes: str = "xy_xz_zx"
    channel_base: int = 32768
    channel_max: int = 512
    decoder_hidden: int = 64
    feature_channels: int = 32
    """Colour features a ray returns; the first three are RGB."""
    density_gain: float = 1.0
    """Multiplies the decoder's density output before softplus(s - 1), and the result."""
    box: float = 1.0
    """Edge of the cube the planes cover, world units."""
    border: int = 0
    """Outermost texels of the planes that count as empty space: there look-ups fade into nothing."""
    near: float = 2.25
    far: float = 3.3
    coarse_samples: int = 48
    fine_samples: int = 48
    decoder_layers: int = 1
    """Hidden layers of the decoder."""
    parts: int = 0
    """Parts of a head (skin, hair, iris ...) that the decoder tells apart: each has one colour, which follows from the
    traits, and the decoder's own colours are what a place differs from it. 0 is off."""
    plain_parts: tuple[int, ...] = ()
    """Numbers of the parts whose places differ in lightness alone, such as hair: shades of one colour."""
    mean_planes: bool = False
    """A learned set of planes added to what the backbone makes."""
    tinted: bool = False
    """Whether the last style scales and shifts the planes' channels: the colour of hair, skin or eyes is one number for
    all of a head, which the convolutions would have to draw anew in every texel."""
    bias_maps: int = 0
    """Resolutions up to this one get a learned bias per position; 0 is none."""
    choices: ChoicesConfig = field(default_factory=ChoicesConfig)
    traits: TraitsConfig = field(default_factory=TraitsConfig)
    bank: BankConfig = field(default_factory=BankConfig)
    focus: FocusConfig = field(default_factory=FocusConfig)
    deformation: DeformationConfig = field(default_factory=DeformationConfig)
    superresolution: SuperresolutionConfig = field(default_factory=SuperresolutionConfig)
    published: PublishedConfig = field(default_factory=PublishedConfig)

    def __post_init__(self) -> None:
        size = self.plane_size
        if size < 4 or size & (size - 1):
            raise ConfigError(f"plane_size must be a power of two from 4 up, not {size}.")
        if max(self.bank.shares, default=-1) >= self.choices.features:
            raise ConfigError("The bank needs shares that exist.")
        if self.choices.features + self.traits.count >= self.w_dim:
            raise ConfigError("A style needs more coordinates than it has traits and shares.")
        if self.parts and not self.traits.count:
            raise ConfigError("The colours of parts follow from traits, of which there are none.")
        if not all(0 <= part < self.parts for part in self.plain_parts):
            raise ConfigError(f"plain_parts names parts of {self.parts}, not {self.plain_parts}.")
        if self.decoder_layers < 1:
            raise ConfigError(f"The decoder needs a hidden layer; decoder_layers is {self.decoder_layers}.")
        if self.plane_axes not in PLANE_AXES:
            raise ConfigError(f"plane_axes must be one of {', '.join(PLANE_AXES)}, not {self.plane_axes!r}.")
        if self.deformation.components > self.z_dim:
            raise ConfigError(f"{self.deformation.components} deformation fields need as many z coordinates.")
        if not 0 < self.near < self.far:
            raise ConfigError(f"rays need 0 < near < far, not {self.near} and {self.far}.")

    @property
    def resolutions(self) -> list[int]:
        """4, 8, ... plane_size."""
        return [2**k for k in range(2, self.plane_size.bit_length())]

    @property
    def num_ws(self) -> int:
        """Style vectors of the backbone: one per convolution and one for the last output."""
        return 2 * len(self.resolutions)

    def channels(self, resolution: int) -> int:
        """Feature channels of the backbone at a resolution."""
        return min(self.channel_base // resolution, self.channel_max)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for a model file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> GeneratorConfig:
        """Reads ``to_dict``'s data; raises ConfigError for unknown or missing fields."""
        # Files that are older than imports do not have it.
        data = {"published": {}, **data}
        known = {f.name for f in fields(cls)}
        if set(data) != known:
            odd = sorted(set(data) ^ known)
            raise ConfigError(f"The generator's configuration has unknown or missing fields: {', '.join(odd)}.")
        values = dict(data)
        groups = tuple((start, tuple(bias)) for start, bias in data["choices"]["groups"])
        switches = tuple((index, threshold) for index, threshold in data["choices"]["switches"])
        values["choices"] = ChoicesConfig(
            groups,
            switches,
            tuple((group, switch) for group, switch in data["choices"]["crossed"]),
            data["choices"]["sharpness"],
            data["choices"]["gain"],
        )
        values["traits"] = TraitsConfig(**data["traits"])
        values["bank"] = BankConfig(tuple(data["bank"]["shares"]), data["bank"]["size"])
        values["plain_parts"] = tuple(data["plain_parts"])
        values["focus"] = FocusConfig(data["focus"]["strength"], tuple(data["focus"]["centre"]))
        deformation = dict(data["deformation"])
        deformation["expressions"] = tuple(tuple(pair) for pair in deformation["expressions"])
        values["deformation"] = DeformationConfig(**deformation)
        larger = dict(data["superresolution"])
        larger |= {key: tuple(larger[key]) for key in ("sizes", "channels")}
        values["superresolution"] = SuperresolutionConfig(**larger)
        values["published"] = PublishedConfig(**data["published"])
        return cls(**values)


EG3D_FFHQ_512 = GeneratorConfig(
    superresolution=SuperresolutionConfig(rendered=128, entry=128, sizes=(256, 512), channels=(256, 128)),
    published=PublishedConfig(folded=True),
)
"""The published EG3D FFHQ networks, 512 pixels from 128 rendered ones."""
