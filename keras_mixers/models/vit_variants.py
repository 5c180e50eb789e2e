"""The published Vision Transformers: one row for each architecture.

A row has those arguments of `ViT` that differ from the builder's defaults. The sizes of the image
are arguments of the checkpoints, because one architecture has checkpoints of several sizes.

Sources of the sizes and switches: the paper of each family, and timm's `vision_transformer.py`,
`deit.py` and `eva.py`.
"""

from keras_mixers.layers import Rotary


def _row(patch_size, hidden_dim, depth, num_heads, mlp_dim, **more):
    return {
        "patch_size": patch_size,
        "hidden_dim": hidden_dim,
        "depth": depth,
        "num_heads": num_heads,
        "mlp_dim": mlp_dim,
        "position_prefix": True,
        "distillation_token": False,
        "layer_scale_init": None,
        **more,
    }


# "An Image is Worth 16x16 Words", arXiv 2010.11929; "Scaling Vision Transformers", arXiv
# 2106.04560.
VIT = {
    "Ti/16": _row(16, 192, 12, 3, 768),
    "S/32": _row(32, 384, 12, 6, 1536),
    "S/16": _row(16, 384, 12, 6, 1536),
    "S/8": _row(8, 384, 12, 6, 1536),
    "M/16": _row(16, 512, 12, 8, 2048),
    "B/32": _row(32, 768, 12, 12, 3072),
    "B/16": _row(16, 768, 12, 12, 3072),
    "B/8": _row(8, 768, 12, 12, 3072),
    "L/32": _row(32, 1024, 24, 16, 4096),
    "L/16": _row(16, 1024, 24, 16, 4096),
    "L/14": _row(14, 1024, 24, 16, 4096),
    "So400m/14": _row(14, 1152, 27, 16, 4304),
    "H/14": _row(14, 1280, 32, 16, 5120),
    "g/14": _row(14, 1408, 40, 16, 6144),
    "G/14": _row(14, 1664, 48, 16, 8192),
}

# "Training data-efficient image transformers & distillation through attention", arXiv 2012.12877;
# "DeiT III: Revenge of the ViT", arXiv 2204.07118.
_DISTILLED = {"distillation_token": True}
_DEIT3 = {"layer_scale_init": 1e-6, "position_prefix": False}
DEIT = {
    "DeiT-Ti/16": _row(16, 192, 12, 3, 768),
    "DeiT-S/16": _row(16, 384, 12, 6, 1536),
    "DeiT-B/16": _row(16, 768, 12, 12, 3072),
    "DeiT-Ti/16-distilled": _row(16, 192, 12, 3, 768, **_DISTILLED),
    "DeiT-S/16-distilled": _row(16, 384, 12, 6, 1536, **_DISTILLED),
    "DeiT-B/16-distilled": _row(16, 768, 12, 12, 3072, **_DISTILLED),
    "DeiT3-S/16": _row(16, 384, 12, 6, 1536, **_DEIT3),
    "DeiT3-M/16": _row(16, 512, 12, 8, 2048, **_DEIT3),
    "DeiT3-B/16": _row(16, 768, 12, 12, 3072, **_DEIT3),
    "DeiT3-L/16": _row(16, 1024, 24, 16, 4096, **_DEIT3),
    "DeiT3-H/14": _row(14, 1280, 32, 16, 5120, **_DEIT3),
}

# "Masked Autoencoders Are Scalable Vision Learners", arXiv 2111.06377: the same as ViT.
MAE = {
    "MAE-B/16": _row(16, 768, 12, 12, 3072),
    "MAE-L/16": _row(16, 1024, 24, 16, 4096),
    "MAE-H/14": _row(14, 1280, 32, 16, 5120),
}

# "Self-Supervised Learning from Images with a Joint-Embedding Predictive Architecture", arXiv
# 2301.08243.
_MEAN_OF_PATCHES = {"pool": "gap", "class_token": False}
I_JEPA = {
    "I-JEPA-H/14": _row(14, 1280, 32, 16, 5120, **_MEAN_OF_PATCHES),
    "I-JEPA-H/16": _row(16, 1280, 32, 16, 5120, **_MEAN_OF_PATCHES),
    "I-JEPA-g/16": _row(16, 1408, 40, 16, 6144, **_MEAN_OF_PATCHES),
}

_SWIGLU = {"gated_mlp": True, "activation": "silu"}

# "DINOv2: Learning Robust Visual Features without Supervision", arXiv 2304.07193; registers:
# "Vision Transformers Need Registers", arXiv 2309.16588.
_DINOV2 = {"layer_scale_init": 1e-5}
_REG4 = {"num_registers": 4, "position_prefix": False}
DINOV2 = {
    "DINOv2-S/14": _row(14, 384, 12, 6, 1536, **_DINOV2),
    "DINOv2-B/14": _row(14, 768, 12, 12, 3072, **_DINOV2),
    "DINOv2-L/14": _row(14, 1024, 24, 16, 4096, **_DINOV2),
    "DINOv2-g/14": _row(14, 1536, 40, 24, 4096, **_DINOV2, **_SWIGLU),
}
DINOV2 |= {f"{name}-reg4": {**row, **_REG4} for name, row in DINOV2.items()}

# "DINOv3", arXiv 2508.10104.
_DINOV3 = {
    "layer_scale_init": 1e-5,
    "epsilon": 1e-5,
    "num_registers": 4,
    "position_embedding": None,
    "rotary": Rotary(),
    "qkv_bias": False,
    "pool": "gap",
    "class_token": True,
}
DINOV3 = {
    "DINOv3-Ti/16": _row(16, 192, 12, 3, 768, **_DINOV3),
    "DINOv3-S/16": _row(16, 384, 12, 6, 1536, **_DINOV3),
    "DINOv3-S+/16": _row(16, 384, 12, 6, 1536, **_DINOV3, **_SWIGLU),
    "DINOv3-B/16": _row(16, 768, 12, 12, 3072, **_DINOV3),
    "DINOv3-L/16": _row(16, 1024, 24, 16, 4096, **_DINOV3),
    "DINOv3-g/16": _row(16, 1536, 40, 24, 4096, **_DINOV3, **_SWIGLU),
    "DINOv3-H+/16": _row(16, 1280, 32, 20, 5120, **_DINOV3, **_SWIGLU),
    "DINOv3-7B/16": _row(16, 4096, 40, 32, 8192, **_DINOV3, **_SWIGLU),
}

# "Learning Transferable Visual Models From Natural Language Supervision", arXiv 2103.00020; the
# larger ones: "Reproducible scaling laws for contrastive language-image learning", arXiv
# 2212.07143.
_CLIP = {"epsilon": 1e-5, "extra_norms": ("embeddings",), "without_bias": ("patches",)}
CLIP = {
    "CLIP-XS/16": _row(16, 256, 10, 4, 1024, **_CLIP),
    "CLIP-M/32": _row(32, 512, 12, 8, 2048, **_CLIP),
    "CLIP-M/16": _row(16, 512, 12, 8, 2048, **_CLIP),
    "CLIP-betwixt/32": _row(32, 640, 12, 10, 2560, **_CLIP),
    "CLIP-B/32": _row(32, 768, 12, 12, 3072, **_CLIP),
    "CLIP-B/16": _row(16, 768, 12, 12, 3072, **_CLIP),
    "CLIP-B+/16": _row(16, 896, 12, 14, 3584, **_CLIP),
    "CLIP-L/14": _row(14, 1024, 24, 16, 4096, **_CLIP),
    "CLIP-H/14": _row(14, 1280, 32, 16, 5120, **_CLIP),
    "CLIP-g/14": _row(14, 1408, 40, 16, 6144, **_CLIP),
    "CLIP-bigG/14": _row(14, 1664, 48, 16, 8192, **_CLIP),
}

# "Sigmoid Loss for Language Image Pre-Training", arXiv 2303.15343; "SigLIP 2", arXiv 2502.14786.
_MAP = {"pool": "map", "class_token": False}
SIGLIP = {
    "SigLIP-B/32": _row(32, 768, 12, 12, 3072, **_MAP),
    "SigLIP-B/16": _row(16, 768, 12, 12, 3072, **_MAP),
    "SigLIP-L/16": _row(16, 1024, 24, 16, 4096, **_MAP),
    "SigLIP-So400m/14": _row(14, 1152, 27, 16, 4304, **_MAP),
    "SigLIP-So400m/16": _row(16, 1152, 27, 16, 4304, **_MAP),
    "SigLIP-gopt/16": _row(16, 1536, 40, 16, 6144, **_MAP),
}

# "EVA", arXiv 2211.07636; "EVA-02", arXiv 2303.11331; "EVA-CLIP", arXiv 2303.15389.
_MEAN_THEN_NORM = {"pool": "gap", "class_token": True, "norm_after_pool": True}
_EVA02_ROTARY = Rotary("index", base=10_000, reference=16, interleaved=True)
_EVA02 = {"without_bias": ("key",), "rotary": _EVA02_ROTARY, **_SWIGLU}
_EVA02_MEAN = {**_EVA02, **_MEAN_THEN_NORM}
_EVA02_CLIP = {**_EVA02, "extra_norms": ("attention", "mlp")}
EVA = {
    "EVA-L/14": _row(14, 1024, 24, 16, 4096, **_MEAN_THEN_NORM),
    "EVA-g/14": _row(14, 1408, 40, 16, 6144, **_MEAN_THEN_NORM, without_bias=("key",)),
    "EVA-CLIP-g/14": _row(14, 1408, 40, 16, 6144, without_bias=("key",)),
    "EVA02-Ti/14": _row(14, 192, 12, 3, 512, **_EVA02_MEAN),
    "EVA02-S/14": _row(14, 384, 12, 6, 1024, **_EVA02_MEAN),
    "EVA02-B/14": _row(14, 768, 12, 12, 2048, **_EVA02_MEAN, extra_norms=("mlp",)),
    "EVA02-L/14": _row(14, 1024, 24, 16, 2730, **_EVA02_MEAN, extra_norms=("mlp",)),
    "EVA02-CLIP-B/16": _row(16, 768, 12, 12, 2048, **_EVA02_CLIP),
    "EVA02-CLIP-L/14": _row(14, 1024, 24, 16, 2730, **_EVA02_CLIP),
}

# "Perception Encoder: The best visual embeddings are not at the output of the network", arXiv
# 2504.13181.


def _pe(reference, class_token=True):
    """The switches of all Perception Encoders; with a class token, rows and columns begin at 1."""
    rotary = Rotary(
        "index",
        base=10_000,
        reference=reference,
        offset=1.0 if class_token else 0.0,
        columns_first=True,
        interleaved=True,
    )
    return {**_CLIP, "rotary": rotary, "class_token": class_token}


def _pe_core(reference, pool_mlp_dim, class_token=True):
    pool = {"pool": "map", "pool_num_heads": 8, "pool_mlp_dim": pool_mlp_dim, "pool_prefix": True}
    return {**_pe(reference, class_token), **pool}


def _pe_spatial(class_token=True):
    return {**_pe(32, class_token), "pool": "gap", "final_norm": False}


PE = {
    "PE-core-Ti/16": _row(16, 192, 12, 3, 768, **_pe_core(24, 768)),
    "PE-core-S/16": _row(16, 384, 12, 6, 1536, **_pe_core(24, 1536)),
    "PE-core-B/16": _row(16, 768, 12, 12, 3072, **_pe_core(14, 3072)),
    "PE-core-L/14": _row(14, 1024, 24, 16, 4096, **_pe_core(24, 4096)),
    "PE-core-G/14": _row(14, 1536, 50, 16, 8960, **_pe_core(32, 6144, class_token=False)),
    "PE-spatial-Ti/16": _row(16, 192, 12, 3, 768, **_pe_spatial()),
    "PE-spatial-S/16": _row(16, 384, 12, 6, 1536, **_pe_spatial()),
    "PE-spatial-B/16": _row(16, 768, 12, 12, 3072, **_pe_spatial()),
    "PE-spatial-L/14": _row(14, 1024, 24, 16, 4096, **_pe_spatial()),
    "PE-spatial-G/14": _row(14, 1536, 50, 16, 8960, **_pe_spatial(False)),
    "PE-lang-L/14": _row(14, 1024, 23, 16, 4096, **_pe_spatial()),
    "PE-lang-G/14": _row(14, 1536, 47, 16, 8960, **_pe_spatial(False)),
}
for _name in ("PE-spatial-G/14", "PE-lang-L/14", "PE-lang-G/14"):
    PE[_name]["layer_scale_init"] = 0.1

# timm's own searches for shapes ("SBB" and "so150m"), whose sources are timm's code and model
# cards.
_REGISTERS = {**_MEAN_OF_PATCHES, "norm_after_pool": True, "num_registers": 4}
_SBB = {**_REGISTERS, "layer_scale_init": 1e-5, "position_prefix": False}
_SBB_ROTARY = {**_SBB, "position_embedding": None, "rotary": _EVA02_ROTARY}
SBB = {
    "SBB-wee/16": _row(16, 256, 14, 4, 1280, **_SBB),
    "SBB-little/16": _row(16, 320, 14, 5, 1792, **_SBB),
    "SBB-medium/16": _row(16, 512, 12, 8, 2048, **_SBB),
    "SBB-mediumd/16": _row(16, 512, 20, 8, 2048, **_SBB),
    "SBB-betwixt/16": _row(16, 640, 12, 10, 2560, **_SBB),
    "SBB-medium/16-rotary": _row(16, 512, 12, 8, 2048, **_SBB_ROTARY, without_bias=("key",)),
    "SBB-mediumd/16-rotary": _row(16, 512, 20, 8, 2048, **_SBB_ROTARY, qkv_bias=False),
    "SBB-betwixt/16-rotary": _row(16, 640, 12, 10, 2560, **_SBB_ROTARY, without_bias=("key",)),
    "SBB-B/16-rotary": _row(16, 768, 12, 12, 3072, **_SBB_ROTARY, without_bias=("key",)),
    "so150m/16": _row(16, 896, 18, 14, 2304, **_MEAN_OF_PATCHES, num_registers=4),
    "so150m2/16": _row(16, 832, 21, 13, 2176, **_REGISTERS),
}

# "FlexiViT: One Model for All Patch Sizes", arXiv 2212.08013.
_FLEXI = {"position_prefix": False}
FLEXIVIT = {
    "FlexiViT-S/16": _row(16, 384, 12, 6, 1536, **_FLEXI),
    "FlexiViT-B/16": _row(16, 768, 12, 12, 3072, **_FLEXI),
    "FlexiViT-L/16": _row(16, 1024, 24, 16, 4096, **_FLEXI),
}

# "InternVL", arXiv 2312.14238.
INTERNVIT = {
    "InternViT-300M/14": _row(14, 1024, 24, 16, 4096, layer_scale_init=0.1, final_norm=False),
}

# "TIPS: Text-Image Pretraining with Spatial awareness", arXiv 2410.16512, version 2.
_TIPS = {"layer_scale_init": 1.0, "num_registers": 1, "position_prefix": False}
TIPS = {
    "TIPSv2-B/14": _row(14, 768, 12, 12, 3072, **_TIPS),
    "TIPSv2-L/14": _row(14, 1024, 24, 16, 4096, **_TIPS),
    "TIPSv2-So400m/14": _row(14, 1152, 27, 16, 4304, **_TIPS),
    "TIPSv2-g/14": _row(14, 1536, 40, 24, 4096, **_TIPS, **_SWIGLU),
}

# "Multimodal Autoregressive Pre-training of Large Vision Encoders", arXiv 2411.14402.
_AIMV2 = {
    **_SWIGLU,
    **_MEAN_OF_PATCHES,
    "epsilon": 1e-5,
    "normalization": "rms",
    "extra_norms": ("patches",),
    "qkv_bias": False,
    "without_bias": ("out", "mlp"),
}
AIMV2 = {
    "AIMv2-L/14": _row(14, 1024, 24, 8, 2816, **_AIMV2),
    "AIMv2-H/14": _row(14, 1536, 24, 12, 4096, **_AIMV2),
    "AIMv2-1B/14": _row(14, 2048, 24, 16, 5632, **_AIMV2),
    "AIMv2-3B/14": _row(14, 3072, 24, 24, 8192, **_AIMV2),
}

# "RADIOv2.5", arXiv 2412.07679; C-RADIO versions 3 and 4.
_RADIO = {"final_norm": False, "position_prefix": False}
C_RADIO = {
    "C-RADIO-v3-B/16": _row(16, 768, 12, 12, 3072, **_RADIO, num_registers=7),
    "C-RADIO-v3-L/16": _row(16, 1024, 24, 16, 4096, **_RADIO, num_registers=7),
    "C-RADIO-v3-H/16": _row(16, 1280, 32, 16, 5120, **_RADIO, num_registers=7),
    "C-RADIO-v3-g/16": _row(16, 1536, 40, 24, 6144, **_RADIO, num_registers=7),
    "C-RADIO-v4-So400m/16": _row(16, 1152, 27, 16, 4304, **_RADIO, num_registers=9),
    "C-RADIO-v4-H/16": _row(16, 1280, 32, 16, 5120, **_RADIO, num_registers=9),
}

# "Rotary Position Embedding for Vision Transformer", arXiv 2403.13298.
_ROPE_VIT = {
    "layer_scale_init": 1e-5,
    "position_embedding": None,
    "rotary": Rotary("index", base=100, columns_first=True, interleaved=True),
}
_LEARNED = Rotary("learned", base=10, columns_first=True, interleaved=True)
ROPE_VIT = {
    "RoPE-ViT-S/16": _row(16, 384, 12, 6, 1536, **_ROPE_VIT),
    "RoPE-ViT-B/16": _row(16, 768, 12, 12, 3072, **_ROPE_VIT),
    "RoPE-ViT-L/16": _row(16, 1024, 24, 16, 4096, **_ROPE_VIT),
}
ROPE_VIT |= {f"{name}-mixed": {**row, "rotary": _LEARNED} for name, row in ROPE_VIT.items()}

# "Image as a Foreign Language: BEiT Pretraining for All Vision and Vision-Language Tasks", arXiv
# 2208.10442.
_BEIT3 = {**_MEAN_THEN_NORM, "epsilon": 1e-5, "extra_norms": ("attention", "mlp")}
BEIT3 = {
    "BEiT3-B/16": _row(16, 768, 12, 12, 3072, **_BEIT3),
    "BEiT3-L/16": _row(16, 1024, 24, 16, 4096, **_BEIT3),
    "BEiT3-g/14": _row(14, 1408, 40, 16, 6144, **_BEIT3),
}

VARIANTS = {
    **VIT,
    **DEIT,
    **MAE,
    **I_JEPA,
    **DINOV2,
    **DINOV3,
    **CLIP,
    **SIGLIP,
    **EVA,
    **PE,
    **SBB,
    **FLEXIVIT,
    **INTERNVIT,
    **TIPS,
    **AIMV2,
    **C_RADIO,
    **ROPE_VIT,
    **BEIT3,
}
