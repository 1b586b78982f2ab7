"""The network: SD1.5 UNet, what SINGER adds to it, and how a checkpoint fills both."""
