"""UNet 3+ and its full-scale-skip relatives as nnU-Net v2 trainers."""
