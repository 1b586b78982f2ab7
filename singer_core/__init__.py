"""SINGER: audio-driven portrait video of singing (arXiv 2412.03430), a library that knows nothing of ComfyUI.

Paper section -> file
    3.2  preliminaries: latent diffusion, v-prediction        network/schedule.py, network/backbone.py
    3.3  Multi-scale Spectral Module (MSM)                    network/spectral.py, on network/wavelet.py
    3.4  Self-adaptive Filter Module (SFM)                    network/spectral.py
    3.5  reference UNet, audio and motion modules             network/adapter.py, built from network/layers.py
    4    inference: clips of 16 frames with 2 carried frames  render/song.py, render/pipeline.py
Beside the paper
    all that a user can choose, with words and ranges         settings.py
    products on a CPU                                         network/linear.py
    too little memory                                         network/memory.py
    fewer steps, guidance, one step after another             network/schedule.py, render/sampler.py

Shape letters, everywhere
    b batch            c channels           n tokens                        l encoder layers (12)
    f frames           h w latent pixels    m audio tokens of a frame (32)  d feature width
    t diffusion step   H W image pixels     k window (5)                    s video frames of the whole song

Imports point one way:
    cli -> render, training, evaluation -> network, audio, portrait -> settings, constants.
"""

__version__ = "0.1.0"
