"""These modules follow the operations of a forward pass: where the channels of a tensor go."""
