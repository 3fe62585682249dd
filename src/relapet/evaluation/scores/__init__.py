"""How well one map, and one region over subjects, is met: image metrics, spectra, regions, agreement."""
