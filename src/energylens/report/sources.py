"""The papers that the measures on the page come from."""

GAO = "Gao, L. et al. Scaling and evaluating sparse autoencoders. 2024. arXiv:2406.04093."
KAPLAN = "Kaplan, J. et al. Scaling laws for neural language models. 2020. arXiv:2001.08361."
HOFFMANN = (
    "Hoffmann, J. et al. Training compute-optimal large language models. 2022. arXiv:2203.15556."
)
HUBEN = (
    "Huben, R. et al. Sparse autoencoders find highly interpretable features in language models. "
    "ICLR 2024. arXiv:2309.08600."
)
LENS = "nostalgebraist. Interpreting GPT: the logit lens. 2020."
TUNED = (
    "Belrose, N. et al. Eliciting latent predictions from transformers with the tuned lens. 2023. "
    "arXiv 2303.08112."
)
SUN = "Sun, M. et al. Massive activations in large language models. 2024. arXiv:2402.17762."
WESTFALL = "Westfall, P. H., Young, S. S. Resampling-based multiple testing. Wiley, 1993."
CAMERON = (
    "Cameron, A. C., Miller, D. L. A practitioner's guide to cluster-robust inference. "
    "Journal of Human Resources 50(2), 2015."
)
BENJAMINI = (
    "Benjamini, Y., Hochberg, Y. Controlling the false discovery rate. "
    "Journal of the Royal Statistical Society B 57(1), 1995."
)
SUNDARARAJAN = (
    "Sundararajan, M. et al. Axiomatic attribution for deep networks. ICML 2017. arXiv:1703.01365."
)
ABNAR = (
    "Abnar, S., Zuidema, W. Quantifying attention flow in transformers. ACL 2020. arXiv:2005.00928."
)
ELHAGE = "Elhage, N. et al. A mathematical framework for transformer circuits. Anthropic, 2021."
SPEARMAN = (
    "Spearman, C. The proof and measurement of association between two things. "
    "American Journal of Psychology 15(1), 1904."
)
NANDA_GROKKING = (
    "Nanda, N. et al. Progress measures for grokking via mechanistic interpretability. ICLR 2023. "
    "arXiv:2301.05217."
)
NANDA = "Nanda, N. Attribution patching: activation patching at industrial scale. 2023."
HEAP = (
    "Heap, T. et al. Sparse autoencoders can interpret randomly initialized transformers. 2025. "
    "arXiv:2501.17727."
)
WANG = (
    "Wang, K. et al. Interpretability in the wild: a circuit for indirect object identification "
    "in GPT-2 small. 2022. arXiv:2211.00593."
)
OLSSON = "Olsson, C. et al. In-context learning and induction heads. 2022. arXiv:2209.11895."
HANNA = "Hanna, M. et al. How does GPT-2 compute greater-than? NeurIPS 2023. arXiv:2305.00586."
MARVIN = (
    "Marvin, R., Linzen, T. Targeted syntactic evaluation of language models. EMNLP 2018. "
    "arXiv:1808.09031."
)
ADEBAYO = "Adebayo, J. et al. Sanity checks for saliency maps. NeurIPS 2018. arXiv:1810.03292."

CAMPELLO = (
    "Campello, R. J. G. B. et al. Density-based clustering based on hierarchical density "
    "estimates. PAKDD 2013."
)
ARMIJO = (
    "Armijo, L. Minimization of functions having Lipschitz continuous first partial derivatives. "
    "Pacific Journal of Mathematics 16(1), 1966."
)

CHUNG = (
    "Chung, E., Romano, J. P. Exact and asymptotically robust permutation tests. "
    "Annals of Statistics 41(2), 2013."
)
JANSSEN = (
    "Janssen, A. Studentized permutation tests for non-i.i.d. hypotheses and the generalized "
    "Behrens–Fisher problem. Statistics & Probability Letters 36(1), 1997."
)
LAN = (
    "Lan, M. et al. Sparse autoencoders reveal universal feature spaces across large language "
    "models. 2024. arXiv:2410.06981."
)
BRICKEN = (
    "Bricken, T. et al. Towards monosemanticity: decomposing language models with dictionary "
    "learning. Transformer Circuits, 2023."
)
RAMSAUER = "Ramsauer, H. et al. Hopfield networks is all you need. ICLR 2021. arXiv:2008.02217."
HOOVER = "Hoover, B. et al. Energy transformer. NeurIPS 2023. arXiv:2302.07253."
TUKEY = "Tukey, J. W. Bias and confidence in not quite large samples. 1958."
RAJAMANOHARAN = (
    "Rajamanoharan, S. et al. Improving dictionary learning with gated sparse autoencoders. 2024. "
    "arXiv:2404.16014."
)
LINDSEY = (
    "Lindsey, J. et al. Sparse crosscoders for cross-layer features and model diffing. "
    "Transformer Circuits, 2024."
)
AMEISEN = (
    "Ameisen, E. et al. Circuit tracing: revealing computational graphs in language models. "
    "Transformer Circuits, 2025."
)
KARVONEN = (
    "Karvonen, A. et al. SAEBench: a comprehensive benchmark for sparse autoencoders. 2025. "
    "arXiv:2503.09532."
)
HYVARINEN = (
    "Hyvärinen, A. Fast and robust fixed-point algorithms for independent component analysis. "
    "IEEE Transactions on Neural Networks 10(3), 1999."
)
MAKELOV = (
    "Makelov, A., Lange, G. & Nanda, N. Towards principled evaluations of sparse autoencoders for "
    "interpretability and control. 2024. arXiv:2405.08366."
)
GURNEE = (
    "Gurnee, W. et al. Finding neurons in a haystack: case studies with sparse probing. TMLR 2023. "
    "arXiv:2305.01610."
)
HEWITT = (
    "Hewitt, J. & Liang, P. Designing and interpreting probes with control tasks. EMNLP 2019. "
    "arXiv:1909.03368."
)
CHANIN = (
    "Chanin, D. et al. A is for absorption: studying feature splitting and absorption in sparse "
    "autoencoders. 2024. arXiv:2409.14507."
)
SHARKEY = "Sharkey, L. et al. Taking features out of superposition with sparse autoencoders. 2022."

HANLEY = (
    "Hanley, J. A., McNeil, B. J. The meaning and use of the area under a receiver operating "
    "characteristic (ROC) curve. Radiology 143(1), 1982."
)
YULE = (
    "Yule, G. U. On the methods of measuring association between two attributes. Journal of the "
    "Royal Statistical Society 75(6), 1912."
)
KAPLAN_MEIER = (
    "Kaplan, E. L., Meier, P. Nonparametric estimation from incomplete observations. "
    "Journal of the American Statistical Association 53(282), 1958."
)
KILLICK = (
    "Killick, R. et al. Optimal detection of changepoints with a linear computational cost. "
    "Journal of the American Statistical Association 107(500), 2012."
)
RUDELSON = (
    "Rudelson, M., Vershynin, R. Sampling from large matrices: an approach through geometric "
    "functional analysis. Journal of the ACM 54(4), 2007."
)
CHEN = (
    "Chen, C., Liu, L.-M. Joint estimation of model parameters and outlier effects in time series. "
    "Journal of the American Statistical Association 88(421), 1993."
)
KUENSCH = (
    "Künsch, H. R. The jackknife and the bootstrap for general stationary observations. "
    "Annals of Statistics 17(3), 1989."
)
HANSEN = "Hansen, B. E. Sample splitting and threshold estimation. Econometrica 68(3), 2000."
LIN = (
    "Lin, J. Divergence measures based on the Shannon entropy. IEEE Transactions on Information "
    "Theory 37(1), 1991."
)
MORCOS = (
    "Morcos, A. S. et al. On the importance of single directions for generalization. ICLR 2018. "
    "arXiv:1803.06959."
)
HOYER = (
    "Hoyer, P. O. Non-negative matrix factorization with sparseness constraints. Journal of "
    "Machine Learning Research 5, 2004."
)
VINJE = (
    "Vinje, W. E., Gallant, J. L. Sparse coding and decorrelation in primary visual cortex during "
    "natural vision. Science 287, 2000."
)
KORNBLITH = (
    "Kornblith, S. et al. Similarity of neural network representations revisited. ICML 2019. "
    "arXiv:1905.00414."
)
NGUYEN = (
    "Nguyen, T. et al. Do wide and deep networks learn the same things? ICLR 2021. "
    "arXiv:2010.15327."
)
DING = (
    "Ding, F. et al. Grounding representation similarity with statistical testing. NeurIPS 2021. "
    "arXiv:2108.01661."
)
