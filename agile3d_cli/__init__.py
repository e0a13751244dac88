"""agile3d: learns a 3D portrait style from about 20 pictures and applies it to a photo."""

__version__ = "0.1.0"
