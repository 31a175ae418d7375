"""Commands of frameworks that serve with arctos. Each module needs its framework, and arctos needs none of them."""
