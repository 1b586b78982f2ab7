"""Run reference fixtures through the public library and compare every output tensor."""
