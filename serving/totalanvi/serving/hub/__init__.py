"""Bundles on the Hugging Face hub, or on anything that speaks as it does: pushed from here, pulled to here."""
