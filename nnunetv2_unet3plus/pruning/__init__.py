"""`unet3plus prune`: smaller UNet++ and UNet# out of trained ones."""
