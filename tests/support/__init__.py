"""What several tests share: real, small things, built on the spot."""
