"""The flat prior: a small 2D generator that draws ``mini``'s heads, and an encoder of such pictures."""
