"""What a trained model says about cells, one topic a file."""
