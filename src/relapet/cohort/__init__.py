"""Reading and writing BIDS data, the template and atlas, and the simulated cohort."""
