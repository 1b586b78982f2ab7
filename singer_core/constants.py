"""Numbers that no checkpoint carries, each with its source ("numerics" = docs/numerics.md)."""

from __future__ import annotations

# Latent space of Stable Diffusion 1.5 and of the VAE `sd-vae-ft-mse`.
VAE_SCALE = 0.18215
VAE_STRIDE = 8
LATENT_CHANNELS = 4
# The UNet halves its latents three times: pictures come in multiples of 8 * 8 pixels.
SIZE_MULTIPLE = 64
DEFAULT_SIZE = (512, 512)  # (H, W) that Hallo and SINGER were trained at

# SD1.5 UNet (diffusers config of `stable-diffusion-v1-5`).
NORM_GROUPS = 32
RESNET_NORM_EPS = 1e-5
TRANSFORMER_NORM_EPS = 1e-6
DEFAULT_HEADS = 8  # diffusers calls the number of heads `attention_head_dim` in this model

# AnimateDiff motion modules, as Hallo configures them.
MOTION_HEADS = 8
MOTION_POSITIONS = 32  # so a clip and its carried frames are at most 32 together

# Hallo's inference configuration, which SINGER keeps.
CLIP_FRAMES = 16
MOTION_FRAMES = 2
FPS = 25.0
AUDIO_RATE = 16_000
AUDIO_REACH = 2  # frames before and behind frame i that its audio projection sees
AUDIO_WINDOW = 2 * AUDIO_REACH + 1
DEFAULT_SEED = 42
MAX_SEED = 2**64 - 1  # of torch's generators, and of ComfyUI's widgets
DEFAULT_STEPS = 40
DEFAULT_GUIDANCE = 3.5

# Training (published configuration): clips of 14 frames, so MSM gains of published weights are sums over 14
# frames.
TRAINED_CLIP_FRAMES = 14
# Frames of zeros in front of a clip when training drops the reference (numerics section 8).
DROPPED_REFERENCE_MOTION_FRAMES = 4

# Diffusion (numerics section 12).
TRAIN_TIMESTEPS = 1000
MIN_SNR_GAMMA = 5.0  # loss weighting in training
BETA_START = 0.00085
BETA_END = 0.012
REFERENCE_TIMESTEP = 0  # the reference UNet sees clean latents

# MSM and SFM (numerics sections 4 and 5).
SPECTRAL_BANDS = 4
SFM_WIDTH = 8  # latent width 64 / 8
AUDIO_TOKENS = 32
IMAGE_TOKENS = 4
IDENTITY_WIDTH = 512  # ArcFace
FACE_LOCATOR_WIDTHS = (16, 32, 64, 128)
