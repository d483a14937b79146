"""A readout beside the generative model: labels, proteins and density straight from counts."""
