"""From conditions to a video: clips, the sampling pipeline, and the writer."""
