"""Which genes and proteins differ between two groups of cells.

Read it in the order of the computation::

    groups       who is compared with whom: masks of cells, from columns, positions or queries of obs
    batches      as which batches either group is decoded
    sampling     draws of denoised expression for either group, and their pairing
    thresholds   what is learned from the draws: the pseudocount of the genes, the smallest change that matters
    hypotheses   draws → probabilities that a feature differs, and its change
    options      what users choose about the tests
    statistics   what the raw counts of either group are
    compare      all of it for one pair of groups, as a table
    methods      `differential_expression`, what users call
"""
