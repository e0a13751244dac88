"""exemplars -> style: the flow behind `agile3d new-style`."""
