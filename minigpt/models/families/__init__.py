"""Readers: a config.json of the hub -> the description of a decoder, its key names the hub's."""
