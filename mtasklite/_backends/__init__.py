"""Ways to run workers: each is one file behind the small protocol of `base`, imported when first asked for."""
