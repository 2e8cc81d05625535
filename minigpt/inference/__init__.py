"""From a model's name to tokens: loading, the device, generation, sampling."""
