"""What a short simulation says about a potential, let into its priors: bonds and angles, pairs, pressure."""
