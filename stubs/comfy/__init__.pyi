"""What the nodes use of ComfyUI, for a type check without it: signatures only, of the objects as they are."""
