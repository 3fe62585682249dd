"""Whether synthetic PET is worth anything beyond its MRI: an outcome predicted with it, without it, with real PET."""
