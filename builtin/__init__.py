"""What makes the built-in model: `python -m builtin STEP FOLDER` in the checkout. Not installed.

world/          songs and people made of numbers, with the truth about both (docs/drawn_world.md)
puppet/         photographs that sing the same songs; faces.py reads a folder of them
learning.py     rates and states of the small networks trained here
drawn.py        data sets of both; pictures.py single pictures of both
steps.py        what `python -m builtin` runs
vae.py          the built-in model's VAE
finder.py       trains the face finder of singer_core/portrait/finder.py
held_out.py     people never trained on: renders and measures of them
study.py, ablation.py, model_card.py, films.py   what docs/study.md and docs/model_card.md say
demo_material.py   portrait and song of `singer demo`
"""
