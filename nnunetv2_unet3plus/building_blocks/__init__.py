"""Parts the networks are made of."""
