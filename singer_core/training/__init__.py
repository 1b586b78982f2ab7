"""Learning: data sets, the synthetic singing world, and the trainer."""
