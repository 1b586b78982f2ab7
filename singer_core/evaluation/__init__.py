"""Numbers and pictures that tell how well a song is sung."""
