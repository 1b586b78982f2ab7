from torch import Tensor, nn

class Encoder(nn.Module):
    layers: nn.ModuleList
    layer_norm: nn.LayerNorm
    do_stable_layer_norm: bool

class LayerGroupNormConv(nn.Module):
    conv: nn.Module
    layer_norm: nn.Module

class FeatureExtractor(nn.Module):
    conv_layers: list[LayerGroupNormConv]

class Wav2Vec2Model(nn.Module):
    feature_extractor: FeatureExtractor
    encoder: Encoder

    def feature_projection(self, x: Tensor) -> Tensor: ...
