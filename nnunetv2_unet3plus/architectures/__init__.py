"""Networks: one file each, an encoder joined to one of our decoders."""
