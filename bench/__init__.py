"""What the speed figures in the README are made with: ratios against a floor measured in the same run."""
