"""The method in prose: one paragraph a measure that this run made, with formula and source."""

from collections.abc import Sequence
from dataclasses import dataclass

from energylens.report.records import Records
from energylens.report.sources import (
    ABNAR,
    ADEBAYO,
    ARMIJO,
    BENJAMINI,
    BRICKEN,
    CAMERON,
    CAMPELLO,
    CHUNG,
    ELHAGE,
    GAO,
    HANNA,
    HEAP,
    HOOVER,
    HUBEN,
    JANSSEN,
    LAN,
    LENS,
    MARVIN,
    NANDA,
    OLSSON,
    RAMSAUER,
    SPEARMAN,
    SUN,
    SUNDARARAJAN,
    TUKEY,
    TUNED,
    WANG,
    WESTFALL,
)


@dataclass(frozen=True, kw_only=True)
class Method:
    """How one thing on the page was measured."""

    anchor: str
    title: str
    table: str
    """The table that this made; without it the paragraph is absent."""
    text: Sequence[str]
    formula: Sequence[str] = ()
    """One formula a line; x_y is x with index y."""
    sources: Sequence[str] = ()
    page: str = ""
    """Page of the documentation."""


METHODS: tuple[Method, ...] = (
    Method(
        anchor="method-dictionaries",
        title="Dictionaries",
        table="dictionaries",
        formula=(
            "z = TopK(W_enc (h − b_dec) + b_enc)",
            "ĥ = W_dec z + b_dec",
            "FVU = Σ ‖h − ĥ‖² / Σ ‖h − h̄‖²",
            "loss recovered = (L_mean − L_ĥ) / (L_mean − L_clean)",
        ),
        text=(
            "At each site a TopK sparse autoencoder is trained on states of one part of the "
            "documents and judged on the others. The first position of each window, which carries "
            "massive activations, is left out. FVU is the residual variance over the variance "
            "about the mean.",
            "For the loss recovered, the reconstruction (L_ĥ), or the mean state (L_mean), is put "
            "in place of the state and the rest of the network is run.",
        ),
        sources=(GAO, HUBEN, SUN),
        page="docs/measures/fvu.md",
    ),
    Method(
        anchor="method-energy",
        title="Energies",
        table="depth",
        formula=(
            "surprisal = −log softmax(W_U norm(h))[next token]",
            "free energy = −log Σ exp(W_U norm(h))",
            "entropy = −Σ p log p, p = softmax(W_U norm(h))",
            "tuned = −log softmax(W_U norm(A h + b))[next token]",
            "downstream = the model's own loss, as a function of h",
        ),
        text=(
            "An energy is a scalar of the state h at one site and position, differentiable in h. "
            "Findings rest on the downstream energy, whose gradient is exact: the rest of the "
            "network is run. The raw lens energies read the state through the model's own final "
            "norm and unembedding; they are badly calibrated in early layers and are shown beside. "
            "The tuned lens first moves the state by an affine map, trained for each site by least "
            "squares and then by KL to the model's own output.",
        ),
        sources=(LENS, TUNED),
        page="docs/measures/surprisal.md",
    ),
    Method(
        anchor="method-efas",
        title="Energy–feature alignment (EFAS)",
        table="features",
        formula=(
            "F_f = −∂E/∂a_f = −⟨∇E(h), d_f⟩",
            "EFAS_f = corr(a_f, F_f)",
            "A_f = mean(a_f · F_f)",
            "t_f = Σ_c S_fc / √(Σ_c S_fc²)",
        ),
        text=(
            "a_f is the activation of feature f and d_f its decoder row, of unit norm. EFAS is the "
            "correlation of activation and force over all scored tokens of the held-out documents. "
            "Positive: the feature is active where it lowers the energy (attractor). Negative: "
            "repulsor. The attribution A_f is, to first order, the energy that ablation costs per "
            "token.",
            "The unit of inference is the document; S_fc is the sum of the centred products of "
            "feature f in document c. A feature is beyond chance if it beats two nulls, each "
            "corrected for all features of all sites at once (max-T, .05). Signs flipped by "
            "document: activation and force do not covary. Decoder rows dealt out among the "
            "features: they do, but other rows would do as well. The family-wise p is the larger "
            "of the two; q is by Benjamini and Hochberg.",
            "A feature with fewer than 30 active tokens or 5 documents is undefined and counted. "
            "Found in both halves: p < .05 with the same sign in each half of the documents.",
        ),
        sources=(CAMERON, WESTFALL, BENJAMINI),
        page="docs/measures/energy_feature_alignment.md",
    ),
    Method(
        anchor="method-intervention",
        title="Interventions",
        table="effects",
        formula=(
            "h ← h + (a′ − a) d_f",
            "predicted ΔE = Σ (a′ − a) ⟨∇E, d_f⟩",
            "measured ΔE = E(changed) − E(unchanged)",
        ),
        text=(
            "Features are chosen on one half of the documents and changed in the other: ablated "
            "(a′ = 0) or doubled (a′ = 2a) wherever they are active in a window, with what the "
            "dictionary fails to reconstruct carried along unchanged. The rest of the network is "
            "run and the change of the window's summed loss is measured. Beside it stands a step "
            "of the same size along a random direction.",
            "Calibration: slope and correlation of measured on predicted effects over features, "
            "with intervals over documents; its null permutes the predictions among features.",
        ),
        sources=(NANDA,),
    ),
    Method(
        anchor="method-attractors",
        title="Attractors and basins",
        table="attractors",
        formula=(
            "E(h) = −Σ p log p, p = softmax(W_U norm(A h + b))",
            "h ← ‖h‖ · (h − η ∇E) / ‖h − η ∇E‖, η by backtracking",
        ),
        text=(
            "One state of each document is run down the entropy of the tuned lens at constant "
            "norm, in steps that must win .3 of what the slope promises, until the slope is gone. "
            "(The free energy of a lens is no use here: moving all logits together lowers it "
            "without end.) The floor is flat, so ends are told apart by what the lens reads there: "
            "the cosine of the square roots of probabilities; equal ones first, the rest by "
            "density.",
            "A basin is a sink if it holds more of the text than of random states with the mean, "
            "covariance and norms of the text's own (hypergeometric, one-sided). Its label is a "
            "class of tokens on which its starts stand more often than all starts do. q is by "
            "Benjamini and Hochberg over all basins, and over all pairs of basin and class.",
            "Attractor shift: states in which a feature is active are run down with and without "
            "it, and after a random step of the same size; unit: document.",
        ),
        sources=(ARMIJO, CAMPELLO, TUNED, BENJAMINI),
    ),
    Method(
        anchor="method-contest",
        title="Saliency contest",
        table="contest",
        formula=(
            "attribution = Σ_t a_f F_f",
            "gradient × activation = Σ_t |a_f F_f|",
            "integrated gradients = Σ_t a_f ∫ F_f(h_0 + α (h − h_0)) dα, h_0 = h − Σ a_f d_f",
            "direct logit = Σ_t |a_f ⟨L d_f, W_U[next] − mean W_U⟩|, L the final norm at h",
            "rollout = Σ_t a_f Σ_s R_st, R = Π (Ā_l + I) / 2",
            "gradient × input = Σ_t a_f |⟨∇E, h⟩|",
        ),
        text=(
            "Features whose ablation was measured are ranked by the size of each score and by the "
            "size of the measured effect, both means over the same windows; the two rankings are "
            "compared by Spearman's correlation and by precision at k, site by site, and averaged "
            "over sites. EFAS and one of the attributions come from the other half of the "
            "documents, as the feature table would be used. Attention is that of the blocks above "
            "the site, averaged over heads; token scores are passed on to the features active on "
            "the token.",
            "The interval is the observed value ± 1.96 standard deviations over documents drawn "
            "again; differences between scores are taken on the same draws. The null deals the "
            "effects out among the features of a site. The gradient along the path of integrated "
            "gradients is taken at few places: the error of their sum is on record.",
        ),
        sources=(SUNDARARAJAN, ABNAR, ELHAGE, SPEARMAN),
        page="docs/contest.md",
    ),
    Method(
        anchor="method-behaviour",
        title="Behaviour",
        table="behaviour_tasks",
        formula=(
            "preference = log Σ_answers p − log Σ_foils p",
            "h ← h + (a′ − a) d_f,  a′ = 0, 2a or the largest a seen",
            "effect = preference(changed) − preference(unchanged)",
        ),
        text=(
            "A task is a set of prompts whose next token is right or wrong. Chance is what the "
            "model's own answers score when they are judged by other units' questions; a task is "
            "used only where the interval of the accuracy (Wilson, one trial a unit) lies above "
            "it. Templates are fixed: intervals are over nouns, names or sequences within them.",
            "The features with the largest |t| on one half of the text are ablated, doubled or "
            "clamped at every position but the first, each beside two random features of its site "
            "that are nearest to it in density and mean activation. Where a feature is active "
            "nowhere in a prompt, ablating and doubling it change nothing.",
            "Any two features differ, so a feature's difference from its matches, tested by "
            "flipping its sign over units, does not make it special: matches differ from each "
            "other as well, and that count is shown beside. Whether the strongest do more is "
            "asked with the feature as the unit: sizes of effects, any member of each matched set "
            "chosen in place of the strongest, all choices gone through, max-T over "
            "interventions. Over all tasks, each task's effects are first divided by its typical "
            "one (root mean square over all features).",
        ),
        sources=(WANG, OLSSON, HANNA, MARVIN, WESTFALL),
        page="docs/measures/answer_preference.md",
    ),
    Method(
        anchor="method-text-classes",
        title="Kinds of text",
        table="text_classes",
        formula=(
            "t = (mean of a kind − mean of the rest) / √(s² / n + s_rest² / n_rest)",
            "FVU of a document = Σ ‖h − ĥ‖² / Σ ‖h − h̄‖², h̄ over all text",
        ),
        text=(
            "Every document has one value of each quantity, and each kind of text is compared with "
            "all others by Welch's t. Its p is from documents that swap their kinds: no kind "
            "differs. A kind with fewer than 5 documents, or with fewer beside it, is undefined, "
            "and so is what never varies (a TopK dictionary has the same number of active features "
            "everywhere). The same test compares how often a feature with a page is active.",
            "The downstream energy is one for the whole model. Ablations are taken over all sites "
            "together; since kinds of text differ in which features are active, the table also has "
            "each ablation minus the mean of the same feature's. A kind is no more than its "
            "documents: what holds of these plays need not hold of all dialogue.",
        ),
        sources=(CHUNG, JANSSEN, BENJAMINI),
    ),
    Method(
        anchor="method-controls",
        title="Controls",
        table="controls",
        text=(
            "Permuted decoder: each feature's activation against the force along another "
            "feature's row. Matched random directions: random unit directions that fire as often "
            "as features do. Activations of another document: the pairing of activation and force "
            "is broken between documents. Random-weight model: the whole analysis, dictionaries "
            "included, on the same architecture with random weights, at every second site and on "
            "half of the text.",
            "The first three must give 5 % of features at p < .05 and no discovery. A random-"
            "weight model has a loss and gradients of its own, so what it gives is reported.",
        ),
        sources=(ADEBAYO, HEAP),
    ),
    Method(
        anchor="method-models",
        title="Models and controls",
        table="models",
        text=(
            "Each model, and the same architecture with random weights, goes through the whole of "
            "energy-lens with dictionaries of one width, at sites of like relative depth, on the "
            "same corpus. A feature is beyond chance as in energy-lens: it beats flipped signs and "
            "other features' decoder rows, family-wise.",
            "|EFAS| is the size of a correlation, which noise makes larger than 0: beside it "
            "stands the same quantile with the sign of each document's share flipped at random. "
            "Intervals leave out one document at a time.",
        ),
        sources=(HEAP, TUKEY),
        page="docs/studies.md",
    ),
    Method(
        anchor="method-matching",
        title="Matching features",
        table="models_matching",
        formula=("partner(f) = argmax_g corr(a_f, a_g)",),
        text=(
            "All models read the same passages, from documents that no dictionary was trained on. "
            "Tokenisers cut text differently, so a feature's activation is averaged over segments "
            "of a fixed number of characters; a token belongs to the segment it begins in. A "
            "feature's partner in the other model is the one whose averages correlate most with "
            "its own on half of the documents; the correlation that is told is that on the other "
            "half.",
            "Two nulls repeat choice and judgement. Documents dealt out anew: the other model's "
            "documents in random order. Segments turned: what a document is about stays, the place "
            "in it does not. Beside both, the same pair of models with random weights: what the "
            "tokens alone make alike. EFAS of partners are compared by rank correlation and sign, "
            "with the same nulls.",
        ),
        sources=(LAN, BRICKEN, HEAP),
        page="docs/studies.md",
    ),
    Method(
        anchor="method-precision",
        title="Precision of the passes",
        table="precision",
        text=(
            "Forward and backward passes that features are scored in run in bfloat16 (by autocast: "
            "states and gradients stay in float32) where one window of the held-out text, run both "
            "ways, shows that this is faster and that forces on decoder rows and losses agree; "
            "else in float32. What was seen is in the table precision. All else runs in float32, "
            "sums in float64.",
        ),
        page="docs/run-directory.md",
    ),
    Method(
        anchor="method-ablation",
        title="Changes and seeds",
        table="ablation_changes",
        formula=("t = (x − mean(base)) / (s √(1 + 1/n))",),
        text=(
            "The base point is run with n seeds; each choice is then changed alone, with the first "
            "seed. Were the change without effect, the run would be one more repeat, and t would "
            "follow Student's law with n − 1 degrees of freedom; s is the standard deviation over "
            "the seeds. Energies and sites are read in the same runs, and compared in pairs, seed "
            "by seed. q is by Benjamini and Hochberg over all changes and outcomes.",
        ),
        sources=(BENJAMINI,),
        page="docs/studies.md",
    ),
    Method(
        anchor="method-planted",
        title="Planted minima",
        table="planted_minima",
        formula=(
            "Hopfield: E(x) = ½ xᵀx − β⁻¹ log Σ exp(β Xᵀx), x ← X softmax(β Xᵀx)",
            "energy transformer: E(g) = −β⁻¹ Σ log Σ exp(β K·Q) − ½ Σ relu(ξ·g)², "
            "g ← norm(g − α ∂E/∂g)",
        ),
        text=(
            "Each network is drawn by a seed, with patterns or memories planted in it. Noisy "
            "copies of what is planted run down its energy in the same descent and are grouped "
            "into the same basins as states of a language model are. Beside it the network's own "
            "update is iterated until nothing moves: a fixed point is known without any descent. "
            "A start is recovered if it ends, to 10⁻⁵, at the fixed point that the planted state "
            "itself runs to, and no other planted state runs there.",
            "Nulls: random states with the mean, covariance and norms of the starts, run down "
            "together with them; the same ends judged by the fixed points of another network "
            "drawn alike. Intervals are over networks. The direction compared with the negative "
            "gradient is the update as the network computes it, without a gradient.",
        ),
        sources=(RAMSAUER, HOOVER, ARMIJO),
        page="docs/planted-energies.md",
    ),
    Method(
        anchor="method-planted-forces",
        title="Known forces",
        table="planted_features",
        formula=("F_f = −⟨∇E(h), d_f⟩ = ⟨update(h) − h, d_f⟩", "EFAS_f = corr(a_f, F_f)"),
        text=(
            "States are written in features of three kinds: planted directions; directions at "
            "right angles to them, which the quadratic term of a Hopfield energy pulls back; and "
            "distractors, active by coordinates beside what the energy reads, with rows of which "
            "half lies in what it reads, so that the force along them varies and knows nothing of "
            "them. Trials, whose states share an offset, stand in for documents.",
            "Both nulls are those of energy-lens, family-wise in each network: signs flipped by "
            "trial, and rows dealt out among the features. The second asks whether another row "
            "would do as well, and refuses where forces span few directions; with one memory it "
            "must refuse even that. The same features are scored by another network's gradient "
            "and with their rows dealt out.",
        ),
        sources=(WESTFALL, RAMSAUER, HOOVER),
        page="docs/planted-energies.md",
    ),
)  # fmt: skip


def methods(records: Records, every: Sequence[Method] = METHODS) -> list[Method]:
    """The paragraphs for the tables that are there."""
    return [method for method in every if records.there(method.table)]


def references(shown: Sequence[Method]) -> list[str]:
    """Every source that the paragraphs rest on, once, by author."""
    return sorted({source for method in shown for source in method.sources}, key=str.lower)
