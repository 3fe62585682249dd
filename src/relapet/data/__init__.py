"""From model-ready derivatives to tensors."""
