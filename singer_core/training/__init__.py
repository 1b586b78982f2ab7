"""Learning: data sets and the trainer (docs/training.md).

config.py       what a run is, from TOML or JSON
dataset.py      prepared clips on disk, and random samples of them
videos.py, hallo.py   two ways to prepare them: a folder of videos, Hallo's layout
recipes.py, initialise.py, lora.py   what is trained, and with which starting weights
objective.py    the loss of a step; all its chance comes from seed and sample number
trainer.py, runlog.py   the loop on `accelerate`, and what it writes down
checkpoints.py  folders `step-000500`, whole or absent, from which a run goes on exactly
"""
