"""Networks, noise schedule and losses: tensors only."""
