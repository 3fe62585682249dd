"""What closed-form regression knows of a subject's PET from the MRI: fitted in seconds, the start of every model."""
