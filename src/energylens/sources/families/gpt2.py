"""GPT-2: learned positions, so the embedding is read after they are added."""

from energylens.sources.family import Family, register

GPT2 = register(
    Family(
        name="gpt2",
        model_types=("gpt2",),
        blocks="transformer.h",
        block_sites={
            "resid_pre": "{block}:in",
            "attn.z": "{block}.attn.c_proj:in",
            "attn_out": "{block}.attn:out[0]",
            "resid_mid": "{block}.ln_2:in",
            "mlp.post": "{block}.mlp.c_proj:in",
            "mlp_out": "{block}.mlp:out",
            "resid_post": "{block}:out",
        },
        model_sites={
            "embed": "transformer.drop:out",
            "ln_final.normalized": "transformer.ln_f:out",
            "logits": "lm_head:out",
        },
        final_norm=("transformer.ln_f",),
        unembed="lm_head",
    )
)
