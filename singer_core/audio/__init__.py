"""From a song to the features of each video frame."""
