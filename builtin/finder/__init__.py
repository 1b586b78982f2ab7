"""A small face finder: `find.py` runs it, `train.py` trains it; not shipped before it is trained."""
