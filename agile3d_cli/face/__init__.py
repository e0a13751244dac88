"""Photo to aligned face: where the face is, which camera saw it, and the crop that camera takes."""
