"""`unet3plus export`: a trained network as a file that PyTorch alone can run."""
