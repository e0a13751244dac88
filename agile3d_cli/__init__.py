"""agile3d: learns a 3D portrait style from about 20 pictures and applies it to a photo."""

import os

__version__ = "0.1.0"

# Intel's MKL, where torch is built on it, shares small products out to whichever thread is free, so that the last bits
# differ from run to run. This fixes who does what, at no cost; it is read when MKL is first used.
os.environ.setdefault("MKL_CBWR", "AUTO")
