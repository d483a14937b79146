"""The contract between export and serving: what a bundle's files hold, and how they are verified and read."""
