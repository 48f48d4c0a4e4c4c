"""`make dev`: the service for those who change it. Nothing of this is in the package."""
