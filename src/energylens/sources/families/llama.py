"""Llama and the architectures that kept its module names."""

from energylens.sources.family import Family, register

LLAMA = register(
    Family(
        name="llama",
        model_types=("llama", "mistral", "qwen2", "qwen3", "smollm3"),
        blocks="model.layers",
        block_sites={
            "resid_pre": "{block}:in",
            "attn.z": "{block}.self_attn.o_proj:in",
            "attn_out": "{block}.self_attn:out[0]",
            "resid_mid": "{block}.post_attention_layernorm:in",
            "mlp.post": "{block}.mlp.down_proj:in",
            "mlp_out": "{block}.mlp:out",
            "resid_post": "{block}:out",
        },
        model_sites={
            "embed": "model.embed_tokens:out",
            "ln_final.normalized": "model.norm:out",
            "logits": "lm_head:out",
        },
        final_norm=("model.norm",),
        unembed="lm_head",
    )
)
