"""Use of this package together with other libraries. Each file needs an optional extra."""
