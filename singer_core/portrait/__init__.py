"""From a picture to the face boxes, masks and identity that condition the network."""
