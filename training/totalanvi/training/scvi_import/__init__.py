"""Coming from scvi-tools: a model that it saved becomes one of ours, without scvi-tools.

::

    saved_folder  SAVED_DIR → where its model is, by names alone
    saves         SAVED_DIR/model.pt → plain values (through `inert`, which runs nothing of the file)
    names         its registry → our `Registry`
    options       its arguments → our `ModelConfig`
    weights       its weights → ours
    reference     the data it was trained on → cells that travel with the checkpoint
    checkpoint    all of it → our `Checkpoint`
"""
