"""What every stage reads and writes: BIDS names, NIfTI, grids, the template and its atlas."""
