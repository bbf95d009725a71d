"""The arguments of a call: checked by their annotations, packed, sealed with a key of the ring."""
