"""Speed and memory, as ratios."""

import warnings

# timm imports what PyTorch calls deprecated; it would stand above every table
warnings.filterwarnings("ignore", r".*torch\.jit\.interface", FutureWarning)
