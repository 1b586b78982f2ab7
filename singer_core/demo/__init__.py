"""The built-in model with a portrait and a song of its own: a face sings without any download."""
