"""From a folder of scans to masks, a Dice table and pictures, through the stock nnU-Net commands."""
