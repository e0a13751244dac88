"""face + style -> avatar: the flow behind `agile3d apply` and `agile3d export`."""
