"""How the simulated cohort groups the atlas labels: tissue of each label, lobes, signatures of disease."""

from __future__ import annotations

from functools import lru_cache

from relapet.imaging.template import atlas_names

_LOBE_OF_CORTEX = {
    "frontal": (
        "superiorfrontal caudalmiddlefrontal rostralmiddlefrontal frontalpole lateralorbitofrontal "
        "medialorbitofrontal parsopercularis parsorbitalis parstriangularis precentral paracentral"
    ),
    "parietal": "postcentral superiorparietal inferiorparietal supramarginal precuneus",
    "temporal": (
        "superiortemporal middletemporal inferiortemporal bankssts transversetemporal temporalpole "
        "fusiform insula"
    ),
    "occipital": "lateraloccipital lingual pericalcarine cuneus",
    "cingulate": "rostralanteriorcingulate caudalanteriorcingulate posteriorcingulate isthmuscingulate",
    "medial_temporal": "entorhinal parahippocampal unknown",
}
_LOBE_OF_DEEP = {
    "medial_temporal": "Hippocampus Amygdala",
    "deep": (
        "Thalamus-Proper Caudate Putamen Pallidum Accumbens-area VentralDC Brain-Stem vessel choroid-plexus"
    ),
    "white": (
        "Cerebral-White-Matter CC_Posterior CC_Mid_Posterior CC_Central CC_Mid_Anterior CC_Anterior "
        "WM-hypointensities non-WM-hypointensities Optic-Chiasm Cerebellum-White-Matter"
    ),
    "cerebellum": "Cerebellum-Cortex",
    "csf": "Lateral-Ventricle Inf-Lat-Vent 3rd-Ventricle 4th-Ventricle CSF",
}

CORTICAL_LOBES = tuple(_LOBE_OF_CORTEX)
LOBES = (*CORTICAL_LOBES, "deep", "white")
"""Groups of labels that share MRI traits; cerebellar cortex and fluid have none."""

TAU_ATROPHY = {
    **dict.fromkeys(("Hippocampus", "Amygdala", "entorhinal", "parahippocampal"), 1.0),
    **dict.fromkeys(("fusiform", "inferiortemporal", "middletemporal", "temporalpole"), 0.7),
    **dict.fromkeys(("bankssts", "superiortemporal", "inferiorparietal", "supramarginal"), 0.45),
    **dict.fromkeys(("isthmuscingulate", "precuneus", "superiorparietal"), 0.35),
}
"""Region to relative tissue loss with tau (Whitwell et al., Brain 2008; Das et al., Brain 2018)."""

AMYLOID_ATROPHY = {
    **dict.fromkeys(("precuneus", "posteriorcingulate", "isthmuscingulate"), 1.0),
    **dict.fromkeys(("inferiorparietal", "superiorparietal", "supramarginal"), 0.7),
    **dict.fromkeys(("rostralmiddlefrontal", "superiorfrontal", "medialorbitofrontal"), 0.7),
    **dict.fromkeys(("lateralorbitofrontal", "rostralanteriorcingulate", "middletemporal"), 0.5),
}
"""Region to relative cortical thinning with amyloid (Becker et al., Ann Neurol 2011)."""

INFLAMMATION_FLAIR = {
    **dict.fromkeys(("Hippocampus", "Amygdala", "entorhinal", "parahippocampal", "Thalamus-Proper"), 1.0),
    **dict.fromkeys(("insula", "posteriorcingulate", "isthmuscingulate", "temporalpole"), 0.7),
    **dict.fromkeys(("rostralanteriorcingulate", "caudalanteriorcingulate", "Brain-Stem"), 0.6),
}
"""Region to relative FLAIR brightening with inflammation: limbic system and thalamus."""


def base_name(label: str) -> str:
    """A label's name without its side: ctx-lh-insula is insula, Left-Putamen is Putamen."""
    for prefix in ("ctx-lh-", "ctx-rh-", "Left-", "Right-"):
        if label.startswith(prefix):
            return label.removeprefix(prefix)
    return label


def indices_of(*names: str) -> list[int]:
    """Atlas indices of the labels with these names (without their side), both sides, ascending."""
    return sorted(index for index, label in atlas_names().items() if base_name(label) in names)


@lru_cache(maxsize=1)
def lobe_of_label() -> dict[int, str]:
    """Atlas index to lobe; also ``cerebellum`` and ``csf``."""
    lobes = {name: lobe for lobe, text in _LOBE_OF_CORTEX.items() for name in text.split()}
    lobes |= {name: lobe for lobe, text in _LOBE_OF_DEEP.items() for name in text.split()}
    return {index: lobes[base_name(name)] for index, name in atlas_names().items()}


def is_cortex(index: int) -> bool:
    """Whether an atlas index is a named cortical parcel."""
    return index >= 1000 and base_name(atlas_names()[index]) != "unknown"


def carries_white(index: int) -> bool:
    """Whether white matter carries the label's uptake; callosum and hypointensities are cerebral white."""
    return base_name(atlas_names()[index]) in {"Cerebral-White-Matter", "Cerebellum-White-Matter"}


def carries_all(index: int) -> bool:
    """Whether grey and white matter inside the label carry its uptake alike: nuclei, brainstem, plexus."""
    name = base_name(atlas_names()[index])
    deep = lobe_of_label()[index] == "deep" and name != "vessel"
    return deep or name in {"Hippocampus", "Amygdala"}


def signature(table: dict[str, float]) -> dict[int, float]:
    """A table by region name as a table by atlas index, both sides."""
    return {i: table[base_name(name)] for i, name in atlas_names().items() if base_name(name) in table}
