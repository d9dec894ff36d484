"""What a short simulation says about a potential, let into its priors: distributions within molecules, and pressure."""
