"""GPT-NeoX (Pythia): attention and MLP read the same stream and are added side by side.

Checkpoints with `use_parallel_residual: false` keep all sites below; `resid_mid` is not claimed for
them either.
"""

from energylens.sources.family import Family, register

GPT_NEOX = register(
    Family(
        name="gpt_neox",
        model_types=("gpt_neox",),
        blocks="gpt_neox.layers",
        block_sites={
            "resid_pre": "{block}:in",
            "attn.z": "{block}.attention.dense:in",
            "attn_out": "{block}.attention:out[0]",
            "mlp.post": "{block}.mlp.dense_4h_to_h:in",
            "mlp_out": "{block}.mlp:out",
            "resid_post": "{block}:out",
        },
        model_sites={
            "embed": "gpt_neox.embed_in:out",
            "ln_final.normalized": "gpt_neox.final_layer_norm:out",
            "logits": "lm_head:out",
        },
        parallel=True,
        final_norm=("gpt_neox.final_layer_norm",),
        unembed="lm_head",
    )
)
