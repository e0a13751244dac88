"""The tri-plane generator: latent -> planes and deformation -> a field that can be asked anywhere.

One class serves ``mini`` and imported EG3D-type weights; see ``config.py``. Nothing is remembered on the module between
calls: a subject is a value (``Subject``) that is passed around.

Source: EG3D (Chan et al., CVPR 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from agile3d_cli.models.backbone import Backbone, Mapping
from agile3d_cli.models.config import GeneratorConfig
from agile3d_cli.models.deformation import Deformation
from agile3d_cli.models.details import detailed_features
from agile3d_cli.models.superresolution import Superresolution
from agile3d_cli.models.triplane import DARKEST, Decoder, Palette

PAINT_FADES = (-0.1, 0.03)
"""Canonical z below which nothing painted shows, and above which all does: behind and at the ears, world units."""
FEATURES = (1, 2, 3, 4, 8)
"""Parts that a style draws by itself, as ``heads.parts.PARTS`` counts them: eyes, brows, lashes, teeth, irises. Their
colours come from the latent, by the palette."""
HIDING = slice(5, 8)
"""Parts that may hang before the face, which no style takes away: hair, glasses, headwear."""
HAIR = (5, 7)
"""Hair and headwear."""
SKIN, SKIN_SHADE = slice(0, 1), 0.5
"""Skin, and how much of the light and shade that paint adds to it comes through in a style: skins are drawn smooth, and
a photo's folds and side light look like dirt on them."""
LOCKS, LOCKS_SHADE = slice(5, 10, 4), 0.4
"""Hair, worn and painted on skin (parts 5 and 9), and the same of it: a photo's strands, shine and shadow look like
stains on what is drawn as one thing. What else is painted there, such as a ribbon, keeps as much."""
PAINTED_COLOUR, SHADE, OTHER = 0.25, 1.0, 2.0
"""How much of what paint adds beside lightness comes through in a style, whose skin and hair are of other colours than
those that were painted over; and how far lightness changes, before squashing, by light and shade at most, and where
something else was painted, such as a dark collar on skin, which is as light as it is itself."""


@dataclass(frozen=True)
class Subject:
    """Everything the field needs of N heads."""

    planes: Tensor
    """(N, 3, C, S, S)."""
    backward: Tensor | None
    """(N, 3, I, I, I) displacement into canonical space, or None where the generator has no deformation."""
    palette: Tensor | None = None
    """(N, parts, 3) colours of the head's parts, or None where the decoder does not tell them apart."""
    paint: Tensor | None = None
    """(N, 3, C, S, S) ``planes`` as a photo has painted them, or None: what is painted moves no surface and changes no
    part into another."""
    style: Tensor | None = None
    """(N, 3, C, S, S) planes of a style, or None: they say what parts and colours are in front, as a style draws brows
    and eyes of its own. What paint changes of the subject's own colours is added to them where the part is the same,
    and not to ``FEATURES``."""
    details: Tensor | None = None
    """(1, C, S, S) of the style, see ``details.py``, or None."""
    strength: float = 1.0
    """How much of the style ``style`` holds, 0 to 1: the less, the more of the paint shows as it was painted."""
    purity: float = 1.0
    """How much colour the style leaves to a thing, 0 to 1: paint beside it keeps no more."""
    contrast: float = 1.0
    """The same of how light and dark things are."""


@dataclass(frozen=True)
class Look:
    """P places of N heads before their colours are made."""

    canonical: Tensor
    """(N, P, 3) in the planes' space."""
    raw: Tensor
    """(N, P, K) of ``Decoder.raw``."""
    density: Tensor
    """(N, P) per world unit, zero outside the box."""

    def at(self, places: Tensor) -> Look:
        """Some of the places, by their numbers."""
        return Look(self.canonical[:, places], self.raw[:, places], self.density[:, places])


class TriplaneGenerator(nn.Module):
    """Mapping, backbone, deformation and decoder; imported networks also have a super-resolution."""

    def __init__(self, config: GeneratorConfig):
        super().__init__()
        self.config = config
        self.mapping = Mapping(config)
        self.backbone = Backbone(config)
        self.decoder = Decoder(config)
        self.deformation = Deformation(config)
        if config.parts:
            self.palette = Palette(config)
        if config.superresolution.sizes:
            self.superresolution = Superresolution(config)

    @property
    def deforms(self) -> bool:
        """Whether planes live in canonical space."""
        return self.config.deformation.components > 0

    def subject(self, ws: Tensor, weights: Tensor | None = None, displacement: Tensor | None = None) -> Subject:
        """Styles (and shape weights) to a subject.

        Args:
            ws: (N, num_ws, w_dim).
            weights: (N, components) shape and expression weights; needed when the generator deforms.
            displacement: (N or 1, 3, G, G, G) added to the forward field: a style's or a photo's own part.
        """
        return Subject(self.backbone(ws), self.backward(weights, displacement), self.colours_of_parts(ws))

    def colours_of_parts(self, ws: Tensor) -> Tensor | None:
        """``Subject.palette`` of styles (N, num_ws, w_dim)."""
        return self.palette(ws) if self.config.parts else None

    def backward(self, weights: Tensor | None, displacement: Tensor | None = None) -> Tensor | None:
        """The displacement into canonical space of ``subject``."""
        if not self.deforms:
            return None
        assert weights is not None, "a deforming generator needs shape weights"
        forward = self.deformation.displacement(weights)
        return self.deformation.invert(forward if displacement is None else forward + displacement)

    def field(self, subject: Subject, points: Tensor) -> tuple[Tensor, Tensor]:
        """Density (N, P) per world unit and colour features (N, P, F) at world points (N, P, 3).

        Outside the box the density is zero.
        """
        look = self.look(subject, points)
        return look.density, self.colours(subject, look)

    def look(self, subject: Subject, points: Tensor) -> Look:
        """``field`` up to where its colours begin, which cost as much again."""
        inside = points.abs().amax(-1) < self.config.box / 2
        points = self.to_canonical(subject, points)
        normalised = self.deformation.focus.forward(points)
        if self.config.border:
            edge = 1 - 2 * self.config.border / self.config.plane_size
            inside = inside & (normalised.abs().amax(-1) < edge)
        raw = self._raw(subject.planes, normalised)
        return Look(points, raw, self.decoder.density(raw[..., 0]) * inside)

    def colours(self, subject: Subject, look: Look) -> Tensor:
        """Colour features (N, P, F) of what was looked at."""
        tone = None if subject.palette is None else self.decoder.tone(look.raw, subject.palette)
        features = self.decoder.colour(look.raw, tone)
        if subject.paint is None and subject.style is None:
            return features
        normalised, added = self.deformation.focus.forward(look.canonical), None
        if subject.paint is not None:
            added = self.decoder.own(self._raw(subject.paint, normalised)) - self.decoder.own(look.raw)
        over = self.decoder.colour(look.raw, _sum(tone, added))
        if subject.style is not None:
            over = self._styled(subject, look.raw, self._raw(subject.style, normalised, subject.details), added, over)
        return torch.lerp(features, over, front_share(look.canonical))

    def hair(self, look: Look) -> Tensor:
        """How much of what was looked at is hair or headwear, (N, P); for decoders that tell parts apart."""
        return self.decoder.shares(look.raw)[:, HAIR].sum(1)

    def _styled(self, subject: Subject, raw: Tensor, drawn: Tensor, added: Tensor | None, plain: Tensor) -> Tensor:
        """Colours (N, P, F) in a style.

        Args:
            subject: whose palette and strength count.
            raw: (N, P, K) of the subject's own planes.
            drawn: the same of the style's.
            added: (N, P, F) by paint, before squashing.
            plain: (N, P, F) colours without the style.
        """
        tone = None if subject.palette is None else self.decoder.tone(drawn, subject.palette)
        if not self.config.parts:
            return self.decoder.colour(drawn, _sum(tone, added))
        before, after = self.decoder.shares(raw), self.decoder.shares(drawn)
        styled = self.decoder.colour(drawn, tone)
        if added is not None:
            kept = [part for part in range(self.config.parts) if part not in FEATURES]
            still = (before * after)[:, kept].sum(1)[..., None]
            bare, locks = ((before[:, part] * after[:, part]).sum(1)[..., None] for part in (SKIN, LOCKS))
            other = _other(added) * (1 - (1 - LOCKS_SHADE) * locks)
            smooth = 1 - (1 - SKIN_SHADE) * bare * (1 - other) - (1 - LOCKS_SHADE) * locks
            added = torch.lerp(added, still * smooth * _calm(added, other), subject.strength)
            shaded = self.decoder.colour(drawn, _sum(tone, added))
            painted = torch.lerp(shaded, _beside(styled, plain, subject.contrast), other * still * subject.strength)
            styled = torch.lerp(_shaded(styled, _lightness(painted)), painted, subject.purity)
        # Hair before an eye or a brow stays hair.
        hidden = before[:, HIDING].sum(1) * (1 - after[:, HIDING].sum(1)) * subject.strength
        return torch.lerp(styled, plain, hidden[..., None])

    def _raw(self, planes: Tensor, normalised: Tensor, details: Tensor | None = None) -> Tensor:
        """``Decoder.raw`` of planes and details at points (N, P, 3) in [-1, 1]."""
        raw: Tensor = self.decoder.raw(detailed_features(planes, details, normalised, self.config.plane_axes))
        return raw

    def to_canonical(self, subject: Subject, points: Tensor) -> Tensor:
        """World points (N, P, 3) of the subject to the space of the planes."""
        if subject.backward is None:
            return points
        return self.deformation.to_canonical(points, subject.backward)

    def canonical_field(
        self, planes: Tensor, points: Tensor, palette: Tensor | None = None, paint: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """``field`` at points already in the planes' space."""
        raw = self._raw(planes, self.deformation.focus.forward(points))
        look = Look(points, raw, self.decoder.density(raw[..., 0]))
        return look.density, self.colours(Subject(planes, None, palette, paint), look)

    def from_latent(self, z: Tensor, label: Tensor | None = None, truncation: float = 1.0) -> Subject:
        """Subjects of latents (N, z_dim)."""
        weights = self.deformation.weights(z) * truncation if self.deforms else None
        return self.subject(self.mapping(z, label, truncation), weights)


def _sum(one: Tensor | None, two: Tensor | None) -> Tensor | None:
    """The sum of what there is."""
    return two if one is None else one if two is None else one + two


def _other(added: Tensor) -> Tensor:
    """Whether what paint adds, (N, P, F) before squashing, is another thing and not shade: (N, P, 1), 0 to 1."""
    lightness: Tensor = added.mean(-1, keepdim=True).abs()
    return ((lightness - SHADE) / (OTHER - SHADE)).clamp(0, 1)


def _calm(added: Tensor, other: Tensor) -> Tensor:
    """What paint adds, (N, P, F) before squashing, with less colour where it is no other thing, see
    ``PAINTED_COLOUR``."""
    lightness = added.mean(-1, keepdim=True)
    return torch.lerp(lightness, added, PAINTED_COLOUR + (1 - PAINTED_COLOUR) * other)


def _beside(styled: Tensor, plain: Tensor, contrast: float) -> Tensor:
    """Colours (N, P, F) of a thing that is ``plain`` without the style, beside ``styled`` ones: no further from them in
    lightness than the style has it."""
    lightness = torch.lerp(torch.logit(_lightness(styled)), torch.logit(_lightness(plain)), contrast)
    return _shaded(plain, lightness.sigmoid())


def _lightness(colour: Tensor) -> Tensor:
    """(N, P, F) -> (N, P, 1), neither black nor white."""
    return colour.mean(-1, keepdim=True).clamp(DARKEST, 1 - DARKEST)


def _shaded(colour: Tensor, lightness: Tensor) -> Tensor:
    """Colours (N, P, F) at another lightness (N, P, 1), and of no other hue: a share of them all, towards black or
    white. Squashing a pale colour further would make it purer."""
    before = _lightness(colour)
    darker, lighter = colour * lightness / before, 1 - (1 - colour) * (1 - lightness) / (1 - before)
    return torch.where(lightness < before, darker, lighter)


def front_share(points: Tensor) -> Tensor:
    """How much of what was painted shows at canonical points (N, P, 3), (N, P, 1): all in front, nothing behind.

    The plane (x, y) runs through the whole head, so a face painted on it would look out of the back as well.
    """
    low, high = PAINT_FADES
    share = ((points[..., 2:] - low) / (high - low)).clamp(0, 1)
    return share * share * (3 - 2 * share)


@torch.no_grad()
def mean_style(generator: TriplaneGenerator, draws: int, generator_seed: int = 0) -> Tensor:
    """Average style (w_dim,) over random latents; for conditioned networks the label is left at zero."""
    rng = torch.Generator().manual_seed(generator_seed)
    z = torch.randn(draws, generator.config.z_dim, generator=rng).to(generator.mapping.w_avg)
    label = z.new_zeros(draws, generator.config.label_dim) if generator.config.label_dim else None
    return generator.mapping(z, label)[:, 0].mean(0)
