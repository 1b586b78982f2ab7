class WrappersMP:
    SAMPLER_SAMPLE: str
