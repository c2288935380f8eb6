"""How dictionaries are trained, judged, browsed and converted, in prose."""

from energylens.report.method import Method
from energylens.report.sources import (
    AMEISEN,
    BENJAMINI,
    BRICKEN,
    CHANIN,
    ELHAGE,
    GAO,
    GURNEE,
    HANLEY,
    HEAP,
    HEWITT,
    HOFFMANN,
    HYVARINEN,
    KAPLAN,
    KARVONEN,
    LINDSEY,
    MAKELOV,
    RAJAMANOHARAN,
    SHARKEY,
    SUN,
    YULE,
)

DICTIONARY_METHODS: tuple[Method, ...] = (
    Method(
        anchor="method-training",
        title="Training",
        table="trained_dictionaries",
        formula=(
            "z = σ(W_enc (h − b_dec) + b_enc), at most or about k of them active",
            "ĥ = W_dec z + b_dec",
            "FVU = Σ ‖h − ĥ‖² / Σ ‖h − h̄‖²",
            "loss recovered = (L_mean − L_ĥ) / (L_mean − L_clean)",
        ),
        text=(
            "States of the model on text are learned from in random order, batch by batch; the "
            "first position of each window, its last, and special tokens are left out, and so are "
            "massive activations: rows farther from the median row than ten median distances. "
            "Rows are centred and scaled while training, which is folded into the weights at the "
            "end.",
            "The activation σ is the architecture's own. Features begin halfway between single "
            "rows and chance. Features that were silent for long are woken by an auxiliary loss on "
            "what the others leave over.",
            "The dictionaries are judged on documents that none was trained on: FVU on their "
            "ordinary rows, and the model's loss with the reconstruction (L_ĥ), or the mean state "
            "(L_mean), in place of the state. Intervals resample documents.",
        ),
        sources=(GAO, BRICKEN, SUN),
        page="docs/train-dictionary.md",
    ),
    Method(
        anchor="method-evaluation",
        title="Evaluation of dictionaries",
        table="evaluation",
        formula=(
            "FVU = Σ ‖x − x̂‖² / Σ ‖x − x̄‖²",
            "scale = Σ ⟨x − x̄, x̂ − x̄⟩ / Σ ‖x̂ − x̄‖²",
            "loss recovered = (L_mean − L_x̂) / (L_mean − L_clean)",
            "KL recovered = (KL_mean − KL_x̂) / KL_mean",
            "match = mean_f max_g cos(W_f, V_g)",
        ),
        text=(
            "Each dictionary is judged on held-out documents beside baselines that have as many "
            "active features a row: principal components, of which each row takes the k largest, "
            "or all rows the same k; independent components; random directions scaled for the best "
            "reconstruction; and three TopK dictionaries trained for the same short time: on the "
            "model's activations, on the same with every column shuffled by itself, and on those "
            "of the same model with random weights, where it is judged on that model's rows. All "
            "are fitted on documents that no measure is taken on.",
            "Every measure is a ratio of sums over documents, with a studentised bootstrap over "
            "documents; differences resample the same documents for both. Rows farther than ten "
            "median distances from the median are massive activations: they are left out, counted, "
            "and FVU is told with them too. In the model they keep their own state.",
            "Decoder rows of two dictionaries are held against random directions, against the own "
            "rows with coordinates dealt out anew, and against random rows of the same mean, "
            "covariance and norms.",
        ),
        sources=(GAO, RAJAMANOHARAN, KARVONEN, HYVARINEN, HEAP, SHARKEY, SUN),
        page="docs/evaluate.md",
    ),
    Method(
        anchor="method-sites",
        title="Dictionaries of several sites",
        table="evaluation_sites",
        formula=("FVU_s = Σ ‖x_s − x̂_s‖² / Σ ‖x_s − x̄_s‖²",),
        text=(
            "The rows of all sites lie side by side: of a crosscoder each in units of its site's "
            "spread, of a cross-layer transcoder what all layers read and what all write. Beside "
            "the latter stand baselines of one layer each, with an equal share of the features and "
            "of those that are active. Random directions are as long at each site as the own rows.",
            "What blocks add is put into the model at all sites at once, made of the unchanged "
            "model's states. What is put into the residual stream would replace what was put in "
            "below: such sites are changed by turns, and losses are means over them.",
        ),
        sources=(LINDSEY, AMEISEN),
        page="docs/evaluate.md",
    ),
    Method(
        anchor="method-labels",
        title="Labels: probes, control, absorption",
        table="evaluation_probes",
        formula=(
            "selectivity = accuracy − accuracy on control tasks",
            "turned = #{edited = patched ≠ unedited} / #{patched ≠ unedited}",
            "weight = Σ over what is taken away of Δ_f d_f · m / ‖m‖², m = Σ a_f d_f",
            "absorbed: a_f d_f · w ≥ 0.4 (x − x̄_without) · w, main features silent",
        ),
        text=(
            "Probes are logistic regressions on the coordinates whose means differ most, both "
            "classes weighed alike, trained on half of the held-out documents and judged on the "
            "other. In a control task each word type has the label of a token drawn at random. "
            "Intervals leave out one document at a time, with Student's t.",
            "Prompts with known attributes come in groups that differ in one attribute each. Edits "
            "change at most so many features at the places that the task names, on top of the "
            "state as it is; what they are held against is patching: the states of the prompt with "
            "that attribute changed. Features of a value, and dictionaries made from labels, are "
            "chosen on half of the groups and judged on the other. Tasks that the model cannot do "
            "are left out, and told.",
            "Absorption is looked for in words by their first letter, on words that neither the "
            "probe, a linear discriminant, nor the features were chosen on; only where the "
            "features of a letter stand for it on those words.",
        ),
        sources=(MAKELOV, GURNEE, HEWITT, CHANIN),
        page="docs/sparse-control.md",
    ),
    Method(
        anchor="method-scaling",
        title="Laws of size",
        table="scaling_laws",
        formula=("FVU(n, t) = c + A (n/n_0)^−α + B (t/t_0)^−β",),
        text=(
            "n is the width, t the distinct tokens trained on, n_0 and t_0 their geometric means. "
            "The law is fitted for each site and k by least squares on ln FVU of the held-out "
            "documents, with all parameters at least 0, after each seed's mean was taken to that "
            "of all: a seed has its own text and its own held-out documents. A value lies in a "
            "95 % interval if holding the parameter there, and fitting the others anew, raises "
            "the sum of squares by no more than Student's t² allows. The F test of lack of fit "
            "asks whether points leave the law by more than seeds leave one another.",
            "Two nulls stand beside. On shuffled states every coordinate's values were dealt out "
            "among the tokens by itself, so no two have anything in common, and dictionaries of "
            "the same sizes were trained on those. Random directions of the same width and k were "
            "not trained at all.",
        ),
        sources=(GAO, KAPLAN, HOFFMANN),
        page="docs/studies.md",
    ),
    Method(
        anchor="method-conversion",
        title="Round trip of files",
        table="conversion_tensors",
        formula=("difference = max ‖ŷ − ŷ'‖ / ‖ŷ − b_dec‖ over rows",),
        text=(
            "The files are read back as any others would be, and random rows go through the "
            "dictionary that was read (ŷ) and through that of the files (ŷ'). Half of the rows are "
            "normal, at lengths over four powers of ten; the other half lie along single encoder "
            "rows, far enough for the feature to fire.",
            "Rounding is the same difference between the source and itself in float64. The null is "
            "a wrong file: the source with its decoder rows dealt out among the features.",
        ),
        page="docs/formats.md",
    ),
    Method(
        anchor="method-browse",
        title="Labels, partners, neighbours and logits of a dictionary's features",
        table="browse_dictionary",
        formula=(
            "AUROC = P(a of a token of the class > a of another) + ½ P(equal)",
            "φ = (n n_fg − n_f n_g) / √(n_f (n − n_f) n_g (n − n_g)), lift = n n_fg / (n_f n_g)",
            "logits: W_U J_norm(h̄) d_f, less their mean",
        ),
        text=(
            "A feature's label is the class of tokens, or kind of text, whose membership its "
            "activation predicts best. The area is exact, with all inactive tokens tied. Its null "
            "turns the classes of the tokens within each document by random amounts, and deals "
            "kinds of text out among documents; the best class is chosen anew in every draw, so "
            "that p knows of the choice, and q (Benjamini–Hochberg) of the many features. "
            "Features with fewer than 30 active tokens in 5 documents are not judged.",
            "Partners are the features with the largest φ over tokens, all pairs counted. "
            "Independence would give n_f n_g / n tokens in common; but text keeps its subject, so "
            "counts with the partner's tokens turned within documents stand beside, and the "
            "largest φ that the feature reaches with any feature so turned. That is one draw: "
            "where nothing goes together, half of the features would have a partner above it.",
            "Neighbours are the decoder rows of largest cosine. Logits are those of the direct "
            "path, by the final norm linearised at the mean state of the first ordinary rows. "
            "Contexts are the five windows of largest activation and three of eight drawn from "
            "all windows in which the feature is active.",
        ),
        sources=(HANLEY, YULE, BENJAMINI, ELHAGE),
        page="docs/browse.md",
    ),
)  # fmt: skip
