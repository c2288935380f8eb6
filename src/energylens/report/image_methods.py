"""How every number of a run on images came about."""

from energylens.report.method import Method
from energylens.report.sources import (
    ADEBAYO,
    BENJAMINI,
    CAMERON,
    GAO,
    HEAP,
    HUBEN,
    NANDA,
    SUN,
    WESTFALL,
)

IMAGE_METHODS: tuple[Method, ...] = (
    Method(
        anchor="method-dictionaries",
        title="Dictionaries",
        table="dictionaries",
        formula=(
            "z = TopK(W_enc (h − b_dec) + b_enc)",
            "ĥ = W_dec z + b_dec",
            "FVU = Σ ‖h − ĥ‖² / Σ ‖h − h̄‖²",
        ),
        text=(
            "At each hidden layer a TopK sparse autoencoder is trained on states of one half of "
            "the images and judged on the other. A layer has one state an image, or one for each "
            "patch or place of its map of channels. States farther than ten median distances from "
            "the middle are left out and counted. FVU is the residual variance over the variance "
            "about the mean.",
        ),
        sources=(GAO, HUBEN, SUN),
        page="docs/measures/fvu.md",
    ),
    Method(
        anchor="method-efas",
        title="Energy–feature alignment (EFAS)",
        table="features",
        formula=(
            "class energy E(h) = −log p(label)",
            "margin E(h) = Σ_c π_c z_c − z_label",
            "F_f = −∂E/∂a_f = −⟨∇E(h), d_f⟩",
            "EFAS_f = corr(a_f, F_f)",
            "t_f = Σ_i S_fi / √(Σ_i S_fi²)",
        ),
        text=(
            "Both energies are functions of the state h at one place of one layer: the rest of the "
            "network is run, and the gradient is exact. The class energy is −z_label plus a term "
            "that knows no label and is flat where the network is sure; the margin puts in its "
            "place what the labels of all images, dealt out blindly, would give on average (π_c is "
            "the share of class c). The finding rests on the margin; the class energy is beside.",
            "EFAS is the correlation of activation a_f and force F_f over all places of the "
            "held-out images, d_f the decoder row of unit norm. Positive: the feature is active "
            "where it lowers the energy (attractor). Negative: repulsor. The unit of inference is "
            "the image; S_fi is the sum of the centred products of feature f in image i. A feature "
            "is beyond chance if it beats two nulls, each corrected for all features of all layers "
            "at once (max-T, .05). Signs flipped by image: activation and force do not covary. "
            "Decoder rows dealt out among the features: they do, but other rows would do as well. "
            "A feature with fewer than 30 active places or 5 images is undefined and counted.",
        ),
        sources=(CAMERON, WESTFALL, BENJAMINI),
        page="docs/classifiers.md",
    ),
    Method(
        anchor="method-own-rows",
        title="Own rows and other rows",
        table="own_rows",
        formula=("share = mean_f #{j ≠ f : |r_fj| < |r_ff|} / (m − 1)",),
        text=(
            "r_fj is the correlation of feature f's activation with the force along feature j's "
            "decoder row, brought to one spread over features and over rows. In a network of few "
            "classes many features serve one class and share a direction, so that none can be "
            "singled out from all others; whether own rows do better as a kind is one test a "
            "layer. Its null deals the rows out among the features, none to its own.",
        ),
        sources=(WESTFALL,),
        page="docs/classifiers.md",
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
            "Features are chosen on one half of the held-out images and changed in the other: "
            "ablated (a′ = 0) or doubled (a′ = 2a) at every place of an image where they are "
            "active, with what the dictionary fails to reconstruct carried along unchanged. Beside "
            "it stands, in the same images, a step of the same size along a random direction.",
            "Calibration: slope and correlation of measured on predicted change of the class "
            "energy over features, with intervals over images; its null permutes the predictions "
            "among features.",
        ),
        sources=(NANDA,),
        page="docs/classifiers.md",
    ),
    Method(
        anchor="method-classes",
        title="Classes",
        table="class_effects",
        formula=("Δ_c = change of z_c − mean_c z_c",),
        text=(
            "Δ_c is the mean over images in which the feature is active, with Student's interval; "
            "p flips its sign by image, and q is by Benjamini and Hochberg over all pairs of "
            "feature and class. A feature raises a class if its ablation lowers it.",
            "Accuracy: the strongest features are ablated in every image of one half, beside two "
            "features each that match them in density and mean activation. The strongest are "
            "compared with their matches by choosing another member of each set in their place.",
        ),
        sources=(BENJAMINI, HEAP),
        page="docs/classifiers.md",
    ),
    Method(
        anchor="method-controls",
        title="Controls",
        table="controls",
        text=(
            "Permuted decoder: each feature's activation against the force along another feature's "
            "row. Matched random directions: random unit directions that fire as often as features "
            "do. Activations of another image, and labels of other images: the pairing of "
            "activation and force is broken between images, or that of image and label. "
            "Random-weight model: the whole analysis, dictionaries included, on the same "
            "architecture with random weights and half of the images.",
            "These must give 5 % of features at p < .05 and no discovery.",
        ),
        sources=(ADEBAYO, HEAP),
    ),
)
